# Train one student per task, variant and seed, by the variant's method.


def student_code(wildcards):
    return code_inputs("workflow_scripts/train.py", f"rkd.methods.{PLAN.method(wildcards.variant)}")


def teacher_of(wildcards):
    """The fine-tuned teacher's record and weights, for the methods that learn from one."""
    if not PLAN.needs_teacher(wildcards.variant):
        return []
    return [f"{TEACHER}/run.json", ancient(f"{TEACHER}/model/model.safetensors")]


def teacher_option(wildcards):
    return f"--teacher {TEACHER}/model".format(**wildcards) if PLAN.needs_teacher(wildcards.variant) else ""


rule train_student:
    input:
        data=f"{DATA}/manifest.json",
        # The manifest names their content: their age does not matter.
        dataset=ancient(f"{DATA}/dataset"),
        tokenizer=ancient(f"{DATA}/tokenizer"),
        teacher=teacher_of,
        code=student_code,
    output:
        **trained(STUDENT),
    params:
        spec=lambda wildcards: PLAN.student(wildcards.task, wildcards.variant, int(wildcards.seed)).json(),
        folder=STUDENT,
        teacher=teacher_option,
    log:
        "results/logs/train_student/{task}/{variant}/seed-{seed}.log",
    benchmark:
        "results/benchmarks/train_student/{task}/{variant}/seed-{seed}.tsv"
    threads: config["threads"]
    shell:
        "python workflow_scripts/train.py --spec {params.spec:q} --data results/data/{wildcards.task} {params.teacher} "
        "--out {params.folder} --device {config[device]} --threads {threads} > {log} 2>&1"
