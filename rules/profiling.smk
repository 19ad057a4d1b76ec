# What models and methods cost on this machine: measured on the first task and seed, and only when asked for
# (`snakemake efficiency`), as other jobs beside it would disturb the clock.


rule measure_efficiency:
    input:
        **if_stored(
            configs=lambda wildcards: [f"{folder}/config.json" for folder in measured_models(wildcards).values()]
        ),
        manifest=data_manifest,
        data=data_files,
        models=lambda wildcards: [f"{folder}/model.safetensors" for folder in measured_models(wildcards).values()],
    output:
        measurement("efficiency"),
    log:
        log_of("measure_efficiency", "{task}"),
    benchmark:
        benchmark_of("measure_efficiency", "{task}")
    conda:
        "../environment.yaml"
    # All of this machine, to be alone on it; late, as on a cluster there is no such number (profiles/slurm sets its own).
    threads: lambda wildcards: workflow.cores
    resources:
        **GPU_RESOURCES,
    params:
        script=script("measure_efficiency.py"),
        models=lambda wildcards, input: [
            f"{row}={os.path.dirname(file)}" for row, file in zip(measured_models(wildcards), input.models)
        ],
        data=folder_of_input("manifest"),
        threads=PLAN.config["threads"],
        code=code_digest("workflow_scripts/measure_efficiency.py"),
    shell:
        "python -m rkd.workflow.gpu_slots --device {resources.device} --gpus {resources.gpu_names} --jobs-per-gpu {resources.jobs_per_gpu} -- "
        "python {params.script:q} --data {params.data:q} --models {params.models:q} "
        "--out {output:q} --device {resources.device} --threads {params.threads} > {log} 2>&1"


rule measure_cost:
    input:
        **if_stored(config=lambda wildcards: f"{folder_of(wildcards.task, TEACHER, PLAN.seeds[0])}/model/config.json"),
        manifest=data_manifest,
        data=data_files,
        teacher=lambda wildcards: f"{folder_of(wildcards.task, TEACHER, PLAN.seeds[0])}/model/model.safetensors",
    output:
        measurement("cost"),
    log:
        log_of("measure_cost", "{task}"),
    benchmark:
        benchmark_of("measure_cost", "{task}")
    conda:
        "../environment.yaml"
    threads: lambda wildcards: workflow.cores
    resources:
        **GPU_RESOURCES,
    params:
        spec=lambda wildcards: PLAN.step_cost(wildcards.task).json(),
        script=script("measure_cost.py"),
        data=folder_of_input("manifest"),
        teacher=folder_of_input("teacher"),
        threads=PLAN.config["threads"],
        code=code_digest("workflow_scripts/measure_cost.py", *PLAN.method_modules()),
    shell:
        "python -m rkd.workflow.gpu_slots --device {resources.device} --gpus {resources.gpu_names} --jobs-per-gpu {resources.jobs_per_gpu} -- "
        "python {params.script:q} --spec - --data {params.data:q} "
        "--teacher {params.teacher:q} --out {output:q} --device {resources.device} --threads {params.threads} "
        "<<< {params.spec:q} > {log} 2>&1"
