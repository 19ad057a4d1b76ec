# Tables and figures from metrics, predictions and histories: seconds, no torch.


rule main_table:
    input:
        metrics=runs(METRICS, ["teacher", *PLAN.variants]),
        published="rkd/report/tables/literature.csv",
    output:
        reported(table("main"), "Main table", "all rows", "main"),
        sources="results/tables/main.json",
    log:
        "results/logs/main_table.log",
    benchmark:
        "results/benchmarks/main_table.tsv"
    conda:
        "../environment.yaml"
    params:
        spec=verbatim(canonical_json(PLAN.report())),
        code=code_digest("workflow_scripts/make_table.py"),
    shell:
        "python workflow_scripts/make_table.py --spec - --out-dir results/tables "
        "--metrics {input.metrics:q} <<< {params.spec:q} > {log} 2>&1"


rule selection_table:
    input:
        histories=runs(f"{STUDENT}/history.jsonl", PLAN.variants),
    output:
        reported(table("selection"), "Selection", "dev scores by selection rule", "selection"),
        sources="results/tables/selection.json",
    log:
        "results/logs/selection_table.log",
    benchmark:
        "results/benchmarks/selection_table.tsv"
    conda:
        "../environment.yaml"
    params:
        spec=verbatim(canonical_json(PLAN.report())),
        code=code_digest("workflow_scripts/make_selection_table.py"),
    shell:
        "python workflow_scripts/make_selection_table.py --spec - --out-dir results/tables "
        "--histories {input.histories:q} <<< {params.spec:q} > {log} 2>&1"


rule comparisons:
    input:
        predictions=runs(f"{STUDENT}/predictions.parquet", PLAN.variants),
    output:
        reported(table("comparisons"), "Comparisons", "differences between rows", "comparisons"),
        sources="results/tables/comparisons.json",
    log:
        "results/logs/comparisons.log",
    benchmark:
        "results/benchmarks/comparisons.tsv"
    conda:
        "../environment.yaml"
    params:
        spec=verbatim(canonical_json(PLAN.report())),
        baselines=[name for name in ("kd", "finetune") if name in PLAN.variants] or PLAN.variants[:1],
        code=code_digest("workflow_scripts/make_comparisons.py"),
    shell:
        "python workflow_scripts/make_comparisons.py --spec - --out-dir results/tables "
        "--baselines {params.baselines} --predictions {input.predictions:q} <<< {params.spec:q} > {log} 2>&1"


rule learning_curves:
    input:
        histories=runs(f"{STUDENT}/history.jsonl", PLAN.variants),
        teachers=runs(METRICS, ["teacher"]),
        style="rkd/report/figures/rkd.mplstyle",
    output:
        reported(figure("learning_curves"), "Learning curves", "dev score by step", "learning_curves"),
        record="results/figures/learning_curves.json",
    log:
        "results/logs/learning_curves.log",
    benchmark:
        "results/benchmarks/learning_curves.tsv"
    conda:
        "../environment.yaml"
    params:
        spec=verbatim(canonical_json(PLAN.report())),
        code=code_digest("workflow_scripts/plot_learning_curves.py"),
    shell:
        "python workflow_scripts/plot_learning_curves.py --spec - --out results/figures/learning_curves "
        "--histories {input.histories:q} --teacher-metrics {input.teachers:q} <<< {params.spec:q} > {log} 2>&1"


rule teacher_dynamics:
    input:
        histories=runs(f"{STUDENT}/history.jsonl", PLAN.variants),
        style="rkd/report/figures/rkd.mplstyle",
    output:
        reported(figure("teacher_dynamics"), "Teacher dynamics", "trainable teachers", "teacher_dynamics"),
        record="results/figures/teacher_dynamics.json",
    log:
        "results/logs/teacher_dynamics.log",
    benchmark:
        "results/benchmarks/teacher_dynamics.tsv"
    conda:
        "../environment.yaml"
    params:
        spec=verbatim(canonical_json(PLAN.report())),
        code=code_digest("workflow_scripts/plot_teacher_dynamics.py"),
    shell:
        "python workflow_scripts/plot_teacher_dynamics.py --spec - "
        "--out results/figures/teacher_dynamics --histories {input.histories:q} <<< {params.spec:q} > {log} 2>&1"


rule score_against_cost:
    input:
        metrics=runs(METRICS, PLAN.variants),
        records=runs(f"{STUDENT}/run.json", PLAN.variants),
        style="rkd/report/figures/rkd.mplstyle",
    output:
        reported(figure("cost"), "Cost", "score against training time", "score_against_cost"),
        record="results/figures/cost.json",
    log:
        "results/logs/score_against_cost.log",
    benchmark:
        "results/benchmarks/score_against_cost.tsv"
    conda:
        "../environment.yaml"
    params:
        spec=verbatim(canonical_json(PLAN.report())),
        code=code_digest("workflow_scripts/plot_cost.py"),
    shell:
        "python workflow_scripts/plot_cost.py --spec - --out results/figures/cost "
        "--metrics {input.metrics:q} --runs {input.records:q} <<< {params.spec:q} > {log} 2>&1"


rule axis_table:
    input:
        metrics=lambda wildcards: axis_runs(wildcards.axis),
    output:
        reported(table("ablation_{axis}"), "Ablations", "{axis}", "ablation"),
        sources="results/tables/ablation_{axis}.json",
    log:
        "results/logs/axis_table/{axis}.log",
    benchmark:
        "results/benchmarks/axis_table/{axis}.tsv"
    conda:
        "../environment.yaml"
    params:
        spec=verbatim(canonical_json(PLAN.report(PLAN.all_variants))),
        axes=verbatim(PLAN.ablations()),
        code=code_digest("workflow_scripts/make_ablation_table.py"),
    shell:
        "python workflow_scripts/make_ablation_table.py --spec - --ablations {params.axes:q} "
        "--axis {wildcards.axis:q} --out-dir results/tables --metrics {input.metrics:q} <<< {params.spec:q} > {log} 2>&1"


rule axis_figure:
    input:
        metrics=lambda wildcards: axis_runs(wildcards.axis),
        style="rkd/report/figures/rkd.mplstyle",
    output:
        reported(figure("ablation_{axis}"), "Ablations", "{axis}", "ablation"),
        record="results/figures/ablation_{axis}.json",
    log:
        "results/logs/axis_figure/{axis}.log",
    benchmark:
        "results/benchmarks/axis_figure/{axis}.tsv"
    conda:
        "../environment.yaml"
    params:
        spec=verbatim(canonical_json(PLAN.report(PLAN.all_variants))),
        axes=verbatim(PLAN.ablations()),
        code=code_digest("workflow_scripts/plot_ablation.py"),
    shell:
        "python workflow_scripts/plot_ablation.py --spec - --ablations {params.axes:q} "
        "--axis {wildcards.axis:q} --out results/figures/ablation_{wildcards.axis} --references "
        "--metrics {input.metrics:q} <<< {params.spec:q} > {log} 2>&1"


rule provenance_table:
    input:
        runs=all_runs("run.json"),
    output:
        reported(table("provenance"), "Provenance", "commits, versions, machines", "provenance"),
        sources="results/tables/provenance.json",
    log:
        "results/logs/provenance_table.log",
    benchmark:
        "results/benchmarks/provenance_table.tsv"
    conda:
        "../environment.yaml"
    params:
        planned=len(PLAN.runs()),
        code=code_digest("workflow_scripts/make_provenance.py"),
    shell:
        "python workflow_scripts/make_provenance.py --planned {params.planned} --out-dir results/tables "
        "--runs {input.runs:q} > {log} 2>&1"


rule report:
    input:
        tables=TABLES,
        sources=[f"results/tables/{name}.json" for name in TABLE_NAMES],
        figures=[*FIGURES, *(f"results/figures/{name}.json" for name in FIGURE_NAMES)],
        logs=lost_logs(),
        citation="CITATION.cff",
    output:
        page=reported(["results/report/index.html"], "Overview", "everything on one page", "report"),
        record="results/report/index.json",
    log:
        "results/logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    conda:
        "../environment.yaml"
    params:
        config=lambda wildcards, output: PLAN.page(),
        # The part of it by which the page is made anew; the rest is not compared, see `own_files`.
        compared=verbatim(PLAN.page(compared=True)),
        tables=[*TABLE_NAMES[:-1], "cost", "efficiency", TABLE_NAMES[-1]],
        figures=[*FIGURE_NAMES, "latency"],
        # Made when asked for only, so no inputs of this rule; what they hold decides whether the page is made anew.
        measured=digests("results/tables/cost.json", "results/tables/efficiency.json", "results/figures/latency.png"),
        code=code_digest("workflow_scripts/make_report.py"),
    shell:
        "python workflow_scripts/make_report.py --config - --results results --citation {input.citation} "
        "--tables {params.tables:q} --figures {params.figures:q} --out {output.page:q} "
        "<<< {params.config:q} > {log} 2>&1"


rule submission:
    input:
        predictions=submitted,
    output:
        "results/submission/{variant}.zip",
    log:
        "results/logs/submission/{variant}.log",
    benchmark:
        "results/benchmarks/submission/{variant}.tsv"
    conda:
        "../environment.yaml"
    params:
        fill="--fill-missing" if PLAN.config["fill_missing_tasks"] else "",
        code=code_digest("workflow_scripts/make_submission.py"),
    shell:
        "python workflow_scripts/make_submission.py --out {output:q} {params.fill} "
        "--predictions {input.predictions:q} > {log} 2>&1"


# No other rule has a name with this beginning, so that an axis may have any.
for axis in PLAN.axes:

    rule:
        name:
            f"ablation_{axis}"
        input:
            table(f"ablation_{axis}"),
            figure(f"ablation_{axis}"),
