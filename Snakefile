# Reptile knowledge distillation on GLUE: teachers → students → metrics → tables and figures.
# `snakemake --cores all` builds everything; `teachers`, `students`, `tables`, `figures`, `ablations`,
# `ablation_NAME`, `submissions` and `TASK_all` (cola_all, …) build a part.

from snakemake.utils import min_version

min_version("9.25")


configfile: "config.yaml"


report: "rules/captions/workflow.rst"


include: "rules/common.smk"


# The report-only mode trains nothing: what is there, however it came there, is all that there is.
if not PLAN.report_only:

    include: "rules/data.smk"
    include: "rules/teacher.smk"
    include: "rules/student.smk"
    include: "rules/evaluate.smk"


include: "rules/report.smk"
include: "rules/efficiency.smk"


# What a teacher's job reads beside its inputs, so that a new variant trains no teacher anew.
onstart:
    if not PLAN.report_only:
        for task in PLAN.tasks:
            atomic_write_text(TRIALS.format(task=task), PLAN.trials(task))


# Among hundreds of jobs the messages of those that failed are far above: they are told once more at the end.
onerror:
    with open(log[0], encoding="utf-8") as file:
        failed = failed_jobs(file.read())
    if failed:
        print(f"\nFailed ({len(failed)}):", *failed, sep="\n  ", file=sys.stderr)


# On a cluster these run where snakemake was started: in the queue they would wait longer than they take, and
# prepare_data may need the internet, which compute nodes often lack. Trainings and measurements become jobs.
localrules:
    axis_figure,
    axis_table,
    comparisons,
    compute_metrics,
    cost_table,
    efficiency_table,
    learning_curves,
    main_table,
    prepare_data,
    provenance_table,
    report,
    score_against_cost,
    score_against_latency,
    selection_table,
    submission,
    teacher_dynamics,


rule all:
    default_target: True
    input:
        TABLES,
        FIGURES,
        "results/report/index.html",
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
