"""The files of the workflow, as templates below the folder of results; names in braces are wildcards of Snakemake."""

DATA = "data/{task}"
TEACHER = "teachers/{task}/seed-{seed}"
STUDENT = "students/{task}/{variant}/seed-{seed}"
METRICS = "metrics/{task}/{variant}/seed-{seed}.json"
# The students of a task, a spec per line: each is tried for a step before the teacher is trained.
TRIALS = ".trials/{task}.jsonl"
CHECKPOINTS = ".checkpoints/{task}/{variant}/seed-{seed}"
TRACKER = "tracker/{task}/{variant}/seed-{seed}"
MEASUREMENT = "measurements/{kind}/{task}.json"
TABLES = "tables"
FIGURES = "figures"
PAGE = "report/index.html"
SUBMISSION = "submission/{variant}.zip"


def run_folder(variant: str) -> str:
    """Return the template of the folder of a variant's runs, or of the teacher's.

    >>> run_folder("teacher").format(task="mrpc", seed=1)
    'teachers/mrpc/seed-1'
    """
    return TEACHER if variant == "teacher" else STUDENT


def log(rule: str, job: str = "") -> str:
    """Return the log of a rule's job.

    Args:
        rule: the name of the rule.
        job: what tells its jobs apart; empty for a rule of one job.

    >>> log("train_student", "mrpc/kd/seed-1")
    'logs/train_student/mrpc/kd/seed-1.log'
    """
    return f"logs/{rule}{'/' if job else ''}{job}.log"


def run_log(variant: str) -> str:
    """Return the template of the log of a variant's runs, or of the teacher's."""
    if variant == "teacher":
        return log("finetune_teacher", "{task}/seed-{seed}")
    return log("train_student", "{task}/{variant}/seed-{seed}")


def benchmark(rule: str, job: str = "") -> str:
    """Return the file of the resources that a rule's job took; arguments as for `log`."""
    return f"benchmarks/{rule}{'/' if job else ''}{job}.tsv"
