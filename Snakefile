# Reptile knowledge distillation on GLUE: teachers → students → metrics → tables and figures.
# `snakemake --cores all` builds everything; `teachers`, `students`, `tables`, `figures`, `ablations`,
# `ablation_NAME`, `submissions` and `TASK_all` (cola_all, …) build a part.

from snakemake.utils import min_version

min_version("9.25")


configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/teacher.smk"
include: "rules/student.smk"
include: "rules/evaluate.smk"
include: "rules/report.smk"
include: "rules/efficiency.smk"


rule all:
    default_target: True
    input:
        TABLES,
        FIGURES,
        runs(METRICS, ["teacher", *PLAN.variants]),


rule teachers:
    input:
        expand(f"{TEACHER}/run.json", task=PLAN.tasks, seed=PLAN.seeds),


rule students:
    input:
        expand(f"{STUDENT}/run.json", task=PLAN.tasks, variant=PLAN.variants, seed=PLAN.seeds),


rule tables:
    input:
        TABLES,


rule figures:
    input:
        FIGURES,


rule ablations:
    input:
        ABLATION_TABLES,
        ABLATION_FIGURES,


rule efficiency:
    input:
        table("efficiency"),
        table("cost"),
        figure("latency"),


rule submissions:
    input:
        expand("results/submission/{variant}.zip", variant=PLAN.variants),
