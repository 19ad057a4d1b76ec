# Tables and figures from metrics and histories: seconds, no torch.


rule main_table:
    input:
        metrics=expand(METRICS, task=PLAN.tasks, variant=["teacher", *PLAN.variants], seed=PLAN.seeds),
        code=code_inputs("workflow_scripts/make_table.py"),
        published="rkd/report/published_glue.csv",
    output:
        TABLES,
        sources="results/tables/main.json",
    log:
        "results/logs/main_table.log",
    benchmark:
        "results/benchmarks/main_table.tsv"
    conda:
        "../environment.yaml"
    params:
        spec=canonical_json(PLAN.report()),
    shell:
        "python workflow_scripts/make_table.py --spec {params.spec:q} --out-dir results/tables "
        "--metrics {input.metrics:q} > {log} 2>&1"


rule learning_curves:
    input:
        histories=expand(f"{STUDENT}/history.jsonl", task=PLAN.tasks, variant=PLAN.variants, seed=PLAN.seeds),
        teachers=expand(METRICS, task=PLAN.tasks, variant="teacher", seed=PLAN.seeds),
        code=code_inputs("workflow_scripts/plot_learning_curves.py"),
        style="rkd/report/rkd.mplstyle",
    output:
        FIGURES,
    log:
        "results/logs/learning_curves.log",
    benchmark:
        "results/benchmarks/learning_curves.tsv"
    conda:
        "../environment.yaml"
    params:
        spec=canonical_json(PLAN.report()),
    shell:
        "python workflow_scripts/plot_learning_curves.py --spec {params.spec:q} --out results/figures/learning_curves "
        "--histories {input.histories:q} --teacher-metrics {input.teachers:q} > {log} 2>&1"
