# Fine-tune one teacher per task and seed; all students of that task and seed learn from it.


rule finetune_teacher:
    input:
        manifest=data_manifest,
        data=data_files,
    output:
        **trained(teachers(RUN)),
    log:
        log_of("finetune_teacher", teachers(JOB)),
    benchmark:
        benchmark_of("finetune_teacher", teachers(JOB))
    conda:
        "../environment.yaml"
    threads: PLAN.config["threads"]
    # Where a job runs is no part of what it computes: a resource, as parameters that change run a job again.
    resources:
        **GPU_RESOURCES,
        checkpoint_minutes=str(PLAN.config["checkpoint_minutes"]),
        tracker=PLAN.config["tracker"],
    params:
        spec=teacher_spec,
        # No output: what a job leaves here when it is stopped is what its next start goes on from.
        checkpoints=teachers(CHECKPOINTS),
        tracker=not_compared(teachers(TRACKER)),
        script=script("train.py"),
        data=folder_of_input("manifest"),
        folder=folder_of_output("run"),
        # No input either: other students train no teacher anew.
        trials=not_compared(TRIALS),
        code=code_digest("workflow_scripts/train.py", "rkd.methods.finetune"),
    shell:
        "python -m rkd.workflow.gpu_slots --device {resources.device} --gpus {resources.gpu_names} --jobs-per-gpu {resources.jobs_per_gpu} -- "
        "python {params.script:q} --spec - --data {params.data:q} "
        "--trials {params.trials} --out {params.folder:q} --device {resources.device} --threads {threads} "
        "--checkpoints {params.checkpoints} --checkpoint-minutes {resources.checkpoint_minutes} "
        "--tracker {resources.tracker} --tracker-folder {params.tracker} "
        "<<< {params.spec:q} > {log} 2>&1"
