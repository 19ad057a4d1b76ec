# Tables and figures from metrics, predictions and histories: seconds, no torch.


rule main_table:
    input:
        metrics=runs(METRICS, ["teacher", *PLAN.variants]),
        published="rkd/report/published_glue.csv",
    output:
        table("main"),
        sources="results/tables/main.json",
    log:
        "results/logs/main_table.log",
    benchmark:
        "results/benchmarks/main_table.tsv"
    conda:
        "../environment.yaml"
    params:
        spec=canonical_json(PLAN.report()),
        code=code_digest("workflow_scripts/make_table.py"),
    shell:
        "python workflow_scripts/make_table.py --spec {params.spec:q} --out-dir results/tables "
        "--metrics {input.metrics:q} > {log} 2>&1"


rule selection_table:
    input:
        histories=runs(f"{STUDENT}/history.jsonl", PLAN.variants),
    output:
        table("selection"),
        sources="results/tables/selection.json",
    log:
        "results/logs/selection_table.log",
    benchmark:
        "results/benchmarks/selection_table.tsv"
    conda:
        "../environment.yaml"
    params:
        spec=canonical_json(PLAN.report()),
        code=code_digest("workflow_scripts/make_selection_table.py"),
    shell:
        "python workflow_scripts/make_selection_table.py --spec {params.spec:q} --out-dir results/tables "
        "--histories {input.histories:q} > {log} 2>&1"


rule comparisons:
    input:
        predictions=runs(f"{STUDENT}/predictions.parquet", PLAN.variants),
    output:
        table("comparisons"),
        sources="results/tables/comparisons.json",
    log:
        "results/logs/comparisons.log",
    benchmark:
        "results/benchmarks/comparisons.tsv"
    conda:
        "../environment.yaml"
    params:
        spec=canonical_json(PLAN.report()),
        baselines=[name for name in ("kd", "finetune") if name in PLAN.variants] or PLAN.variants[:1],
        code=code_digest("workflow_scripts/make_comparisons.py"),
    shell:
        "python workflow_scripts/make_comparisons.py --spec {params.spec:q} --out-dir results/tables "
        "--baselines {params.baselines} --predictions {input.predictions:q} > {log} 2>&1"


rule learning_curves:
    input:
        histories=runs(f"{STUDENT}/history.jsonl", PLAN.variants),
        teachers=runs(METRICS, ["teacher"]),
        style="rkd/report/rkd.mplstyle",
    output:
        figure("learning_curves"),
    log:
        "results/logs/learning_curves.log",
    benchmark:
        "results/benchmarks/learning_curves.tsv"
    conda:
        "../environment.yaml"
    params:
        spec=canonical_json(PLAN.report()),
        code=code_digest("workflow_scripts/plot_learning_curves.py"),
    shell:
        "python workflow_scripts/plot_learning_curves.py --spec {params.spec:q} --out results/figures/learning_curves "
        "--histories {input.histories:q} --teacher-metrics {input.teachers:q} > {log} 2>&1"


rule teacher_dynamics:
    input:
        histories=runs(f"{STUDENT}/history.jsonl", PLAN.variants),
        style="rkd/report/rkd.mplstyle",
    output:
        figure("teacher_dynamics"),
    log:
        "results/logs/teacher_dynamics.log",
    benchmark:
        "results/benchmarks/teacher_dynamics.tsv"
    conda:
        "../environment.yaml"
    params:
        spec=canonical_json(PLAN.report()),
        code=code_digest("workflow_scripts/plot_teacher_dynamics.py"),
    shell:
        "python workflow_scripts/plot_teacher_dynamics.py --spec {params.spec:q} "
        "--out results/figures/teacher_dynamics --histories {input.histories:q} > {log} 2>&1"


rule score_against_cost:
    input:
        metrics=runs(METRICS, PLAN.variants),
        records=runs(f"{STUDENT}/run.json", PLAN.variants),
        style="rkd/report/rkd.mplstyle",
    output:
        figure("cost"),
    log:
        "results/logs/score_against_cost.log",
    benchmark:
        "results/benchmarks/score_against_cost.tsv"
    conda:
        "../environment.yaml"
    params:
        spec=canonical_json(PLAN.report()),
        code=code_digest("workflow_scripts/plot_cost.py"),
    shell:
        "python workflow_scripts/plot_cost.py --spec {params.spec:q} --out results/figures/cost "
        "--metrics {input.metrics:q} --runs {input.records:q} > {log} 2>&1"


rule ablation_table:
    input:
        metrics=lambda wildcards: axis_runs(wildcards.axis),
    output:
        table("ablation_{axis}"),
        sources="results/tables/ablation_{axis}.json",
    log:
        "results/logs/ablation_table/{axis}.log",
    benchmark:
        "results/benchmarks/ablation_table/{axis}.tsv"
    conda:
        "../environment.yaml"
    params:
        spec=lambda wildcards: axis_spec(wildcards.axis),
        axes=PLAN.ablations(),
        code=code_digest("workflow_scripts/make_ablation_table.py"),
    shell:
        "python workflow_scripts/make_ablation_table.py --spec {params.spec:q} --ablations {params.axes:q} "
        "--axis {wildcards.axis:q} --out-dir results/tables --metrics {input.metrics:q} > {log} 2>&1"


rule ablation_figure:
    input:
        metrics=lambda wildcards: axis_runs(wildcards.axis),
        style="rkd/report/rkd.mplstyle",
    output:
        figure("ablation_{axis}"),
    log:
        "results/logs/ablation_figure/{axis}.log",
    benchmark:
        "results/benchmarks/ablation_figure/{axis}.tsv"
    conda:
        "../environment.yaml"
    params:
        spec=lambda wildcards: axis_spec(wildcards.axis),
        axes=PLAN.ablations(),
        code=code_digest("workflow_scripts/plot_ablation.py"),
    shell:
        "python workflow_scripts/plot_ablation.py --spec {params.spec:q} --ablations {params.axes:q} "
        "--axis {wildcards.axis:q} --out results/figures/ablation_{wildcards.axis} --references "
        "--metrics {input.metrics:q} > {log} 2>&1"


rule submission:
    input:
        predictions=lambda wildcards: runs(f"{STUDENT}/predictions.parquet", [wildcards.variant], PLAN.glue_tasks),
    output:
        "results/submission/{variant}.zip",
    log:
        "results/logs/submission/{variant}.log",
    benchmark:
        "results/benchmarks/submission/{variant}.tsv"
    conda:
        "../environment.yaml"
    params:
        fill="--fill-missing" if config["fill_missing_tasks"] else "",
        code=code_digest("workflow_scripts/make_submission.py"),
    shell:
        "python workflow_scripts/make_submission.py --out {output:q} {params.fill} "
        "--predictions {input.predictions:q} > {log} 2>&1"


for axis in PLAN.axes:

    rule:
        name:
            f"ablation_{axis}"
        input:
            table(f"ablation_{axis}"),
            figure(f"ablation_{axis}"),
