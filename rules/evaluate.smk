# Metrics from predictions: no torch, a second per run.


rule compute_metrics:
    input:
        predictions=f"{RUN}/predictions.parquet",
        logits=f"{RUN}/logits.parquet",
    output:
        METRICS,
    log:
        log_of("compute_metrics", JOB),
    benchmark:
        benchmark_of("compute_metrics", JOB)
    localrule: True
    conda:
        "../environment.yaml"
    params:
        spec=lambda wildcards: PLAN.metrics(wildcards.task, wildcards.variant, int(wildcards.seed)).json(),
        script=script("compute_metrics.py"),
        code=code_digest("workflow_scripts/compute_metrics.py"),
    shell:
        "python {params.script:q} --spec - --predictions {input.predictions:q} "
        "--out {output:q} <<< {params.spec:q} > {log} 2>&1"


# No other rule has a name with this end, so that a task may have any.
for task in PLAN.tasks:

    rule:
        name:
            f"{task}_all"
        input:
            runs(METRICS, ROWS, [task]),
