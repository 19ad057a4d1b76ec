# What models and methods cost on this machine: measured on the first task and seed, and only when asked for
# (`snakemake efficiency`), as other jobs beside it would disturb the clock.


rule measure_efficiency:
    input:
        data=f"{DATA}/manifest.json",
        models=lambda wildcards: [f"{folder}/model.safetensors" for folder in measured_models(wildcards).values()],
    output:
        "results/measurements/efficiency/{task}.json",
    log:
        "results/logs/measure_efficiency/{task}.log",
    benchmark:
        "results/benchmarks/measure_efficiency/{task}.tsv"
    conda:
        "../environment.yaml"
    # All of this machine, to be alone on it; late, as on a cluster there is no such number (profiles/slurm sets its own).
    threads: lambda wildcards: workflow.cores
    resources:
        **GPU_RESOURCES,
    params:
        models=lambda wildcards: [f"{row}={folder}" for row, folder in measured_models(wildcards).items()],
        threads=PLAN.config["threads"],
        code=code_digest("workflow_scripts/measure_efficiency.py"),
    shell:
        "python -m rkd.workflow.gpu_slots --device {resources.device} --gpus {resources.gpu_names} --jobs-per-gpu {resources.jobs_per_gpu} -- "
        "python workflow_scripts/measure_efficiency.py --data results/data/{wildcards.task} --models {params.models:q} "
        "--out {output:q} --device {resources.device} --threads {params.threads} > {log} 2>&1"


rule measure_cost:
    input:
        data=f"{DATA}/manifest.json",
        teacher=f"{TEACHER}/model/model.safetensors".replace("{seed}", str(PLAN.seeds[0])),
    output:
        "results/measurements/cost/{task}.json",
    log:
        "results/logs/measure_cost/{task}.log",
    benchmark:
        "results/benchmarks/measure_cost/{task}.tsv"
    conda:
        "../environment.yaml"
    threads: lambda wildcards: workflow.cores
    resources:
        **GPU_RESOURCES,
    params:
        student=lambda wildcards: PLAN.student_model(),
        methods=lambda wildcards: PLAN.measured_methods(wildcards.task),
        batch_size=PLAN.config["student"]["batch_size"],
        threads=PLAN.config["threads"],
        code=code_digest("workflow_scripts/measure_cost.py", *PLAN.method_modules()),
    shell:
        "python -m rkd.workflow.gpu_slots --device {resources.device} --gpus {resources.gpu_names} --jobs-per-gpu {resources.jobs_per_gpu} -- "
        "python workflow_scripts/measure_cost.py --data results/data/{wildcards.task} --student {params.student:q} "
        "--teacher $(dirname {input.teacher:q}) --methods {params.methods:q} --batch-size {params.batch_size} "
        "--out {output:q} --device {resources.device} --threads {params.threads} > {log} 2>&1"


rule efficiency_table:
    input:
        measurement=f"results/measurements/efficiency/{PLAN.tasks[0]}.json",
    output:
        reported(table("efficiency"), "Efficiency", "size and speed", "efficiency"),
        sources="results/tables/efficiency.json",
    log:
        "results/logs/efficiency_table.log",
    benchmark:
        "results/benchmarks/efficiency_table.tsv"
    conda:
        "../environment.yaml"
    params:
        code=code_digest("workflow_scripts/make_efficiency_table.py"),
    shell:
        "python workflow_scripts/make_efficiency_table.py --out-dir results/tables "
        "--measurements {input.measurement:q} > {log} 2>&1"


rule cost_table:
    input:
        measurement=f"results/measurements/cost/{PLAN.tasks[0]}.json",
    output:
        reported(table("cost"), "Cost", "a training step by method", "cost"),
        sources="results/tables/cost.json",
    log:
        "results/logs/cost_table.log",
    benchmark:
        "results/benchmarks/cost_table.tsv"
    conda:
        "../environment.yaml"
    params:
        spec=verbatim(canonical_json(PLAN.report())),
        code=code_digest("workflow_scripts/make_cost_table.py"),
    shell:
        "python workflow_scripts/make_cost_table.py --spec - --out-dir results/tables "
        "--measurement {input.measurement:q} <<< {params.spec:q} > {log} 2>&1"


rule score_against_latency:
    input:
        metrics=runs(METRICS, ["teacher", *PLAN.variants]),
        efficiency="results/tables/efficiency.csv",
        style="rkd/report/figures/rkd.mplstyle",
    output:
        reported(figure("latency"), "Efficiency", "score against latency", "latency"),
        record="results/figures/latency.json",
    log:
        "results/logs/score_against_latency.log",
    benchmark:
        "results/benchmarks/score_against_latency.tsv"
    conda:
        "../environment.yaml"
    params:
        spec=verbatim(canonical_json(PLAN.report())),
        code=code_digest("workflow_scripts/plot_latency.py"),
    shell:
        "python workflow_scripts/plot_latency.py --spec - --out results/figures/latency "
        "--metrics {input.metrics:q} --efficiency {input.efficiency:q} <<< {params.spec:q} > {log} 2>&1"
