# Metrics from predictions: no torch, a second per run.


def run_folder(wildcards):
    return (TEACHER if wildcards.variant == "teacher" else STUDENT).format(**wildcards)


rule compute_metrics:
    input:
        predictions=lambda wildcards: f"{run_folder(wildcards)}/predictions.parquet",
        code=code_inputs("workflow_scripts/compute_metrics.py"),
    output:
        METRICS,
    params:
        spec=lambda wildcards: PLAN.metrics(wildcards.task, wildcards.variant, int(wildcards.seed)),
    log:
        "results/logs/compute_metrics/{task}/{variant}/seed-{seed}.log",
    benchmark:
        "results/benchmarks/compute_metrics/{task}/{variant}/seed-{seed}.tsv"
    shell:
        "python workflow_scripts/compute_metrics.py --spec {params.spec:q} --predictions {input.predictions:q} "
        "--out {output:q} > {log} 2>&1"
