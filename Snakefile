# Reptile knowledge distillation on GLUE: teachers → students → metrics → tables and figures.
# `snakemake --cores all` builds everything; `teachers`, `students`, `tables`, `figures`, `ablations`,
# `ablation_NAME`, `submissions` and `TASK_all` (cola_all, …) build a part; `tune` tunes. The settings are those of config.yaml,
# changed by --configfile and --config.

from snakemake.utils import min_version

min_version("9.25")


report: "rules/captions/workflow.rst"


include: "rules/common.smk"


# The report-only mode trains nothing: what is there, however it came there, is all that there is.
if not PLAN.report_only:

    include: "rules/data.smk"
    include: "rules/teacher.smk"
    include: "rules/student.smk"
    include: "rules/evaluate.smk"
    include: "rules/tune.smk"


include: "rules/report.smk"
include: "rules/profiling.smk"


onstart:
    write_trials()


# Among hundreds of jobs the messages of those that failed are far above: they are told once more at the end.
onerror:
    with open(log[0], encoding="utf-8") as file:
        failed = failed_jobs(file.read())
    if failed:
        print(f"\nFailed ({len(failed)}):", *failed, sep="\n  ", file=sys.stderr)


rule all:
    default_target: True
    input:
        TABLE_FILES,
        FIGURE_FILES,
        PAGE,
        ALL_METRICS,


rule teachers:
    input:
        runs(f"{RUN}/run.json", [TEACHER]),


rule students:
    input:
        runs(f"{RUN}/run.json", PLAN.variants),


rule tables:
    input:
        TABLE_FILES,


rule figures:
    input:
        FIGURE_FILES,


rule ablations:
    input:
        ABLATION_FILES,


rule efficiency:
    input:
        table("efficiency"),
        table("cost"),
        figure("latency"),


rule submissions:
    input:
        expand(SUBMISSION, variant=PLAN.variants),
