# Train one student per task, variant and seed, by the variant's method.

STUDENTS = [*PLAN.all_variants, *PLAN.candidates]


rule train_student:
    input:
        manifest=data_manifest,
        data=data_files,
        teacher=teacher_of,
    output:
        **trained(RUN),
    log:
        log_of("train_student", JOB),
    benchmark:
        benchmark_of("train_student", JOB)
    wildcard_constraints:
        # Never the teacher's folder, which the rule in rules/teacher.smk makes.
        variant=any_of(name for name in STUDENTS if name not in PLAN.with_teacher_kept),
    conda:
        "../environment.yaml"
    threads: PLAN.config["threads"]
    # Where a job runs is no part of what it computes: a resource, as parameters that change run a job again.
    resources:
        **GPU_RESOURCES,
        checkpoint_minutes=str(PLAN.config["checkpoint_minutes"]),
        tracker=PLAN.config["tracker"],
    params:
        spec=student_spec,
        # No output: what a job leaves here when it is stopped is what its next start goes on from.
        checkpoints=CHECKPOINTS,
        tracker=not_compared(TRACKER),
        script=script("train.py"),
        data=folder_of_input("manifest"),
        folder=folder_of_output("run"),
        teacher=teacher_options,
        code=student_code,
    shell:
        "python -m rkd.workflow.gpu_slots --device {resources.device} --gpus {resources.gpu_names} --jobs-per-gpu {resources.jobs_per_gpu} -- "
        "python {params.script:q} --spec - --data {params.data:q} {params.teacher} "
        "--out {params.folder:q} --device {resources.device} --threads {threads} "
        "--checkpoints {params.checkpoints} --checkpoint-minutes {resources.checkpoint_minutes} "
        "--tracker {resources.tracker} --tracker-folder {params.tracker} "
        "<<< {params.spec:q} > {log} 2>&1"


if PLAN.with_teacher_kept:

    # The same of a variant from whose last teacher another one learns: the run writes that teacher, too.
    use rule train_student as train_student_and_teacher with:
        output:
            **trained(RUN),
            **if_stored(
                teacher_config=f"{RUN}/{LEFT}/config.json",
                teacher_tokenizer=[f"{RUN}/{LEFT}/tokenizer.json", f"{RUN}/{LEFT}/tokenizer_config.json"],
            ),
            teacher=f"{RUN}/{LEFT}/model.safetensors",
        wildcard_constraints:
            variant=any_of(PLAN.with_teacher_kept),
