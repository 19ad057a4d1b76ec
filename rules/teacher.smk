# Fine-tune one teacher per task and seed; all students of that task and seed learn from it.


rule finetune_teacher:
    input:
        data=f"{DATA}/manifest.json",
        # The manifest names their content: their age does not matter.
        dataset=ancient(f"{DATA}/dataset"),
        tokenizer=ancient(f"{DATA}/tokenizer"),
    output:
        **trained(TEACHER),
    log:
        "results/logs/finetune_teacher/{task}/seed-{seed}.log",
    benchmark:
        "results/benchmarks/finetune_teacher/{task}/seed-{seed}.tsv"
    conda:
        "../environment.yaml"
    threads: config["threads"]
    # Where a job runs is no part of what it computes: a resource, as parameters that change run a job again.
    resources:
        **GPU_RESOURCES,
        checkpoint_minutes=str(config["checkpoint_minutes"]),
        tracker=config["tracker"],
    params:
        spec=lambda wildcards: PLAN.teacher(wildcards.task, int(wildcards.seed)).json(),
        # No output: what a job leaves here when it is stopped is what its next start goes on from.
        checkpoints="results/.checkpoints/{task}/teacher/seed-{seed}",
        folder=TEACHER,
        # No input either: other students train no teacher anew.
        trials=TRIALS,
        code=code_digest("workflow_scripts/train.py", "rkd.methods.finetune"),
    shell:
        "python -m rkd.workflow.gpu_slots --device {resources.device} --gpus {resources.gpu_names} --jobs-per-gpu {resources.jobs_per_gpu} -- "
        "python workflow_scripts/train.py --spec - --data results/data/{wildcards.task} "
        "--trials {params.trials} --out {params.folder} --device {resources.device} --threads {threads} "
        "--checkpoints {params.checkpoints} --checkpoint-minutes {resources.checkpoint_minutes} "
        "--tracker {resources.tracker} --tracker-folder results/tracker/{wildcards.task}/teacher/seed-{wildcards.seed} "
        "<<< {params.spec:q} > {log} 2>&1"
