# The plan, the paths and the outputs that all rules speak of.

import sys

try:
    from rkd.code_inputs import code_inputs
    from rkd.config import load, typed
    from rkd.errors import RkdError
    from rkd.plan import Plan
    from rkd.spec import canonical_json
except ImportError as error:
    sys.exit(f"error: {error}; run `make install` and put .venv/bin into PATH, or `pip install -e .`")

try:
    PLAN = Plan(load(typed(config)))
except RkdError as error:
    sys.exit(f"error: {error}")

DATA = "results/data/{task}"
TEACHER = "results/teachers/{task}/seed-{seed}"
STUDENT = "results/students/{task}/{variant}/seed-{seed}"
METRICS = "results/metrics/{task}/{variant}/seed-{seed}.json"
TABLES = expand("results/tables/main.{format}", format=["csv", "md", "tex"])
FIGURES = expand("results/figures/learning_curves.{format}", format=["pdf", "png"])


wildcard_constraints:
    task="|".join(PLAN.tasks),
    variant="|".join(["teacher", *PLAN.variants]),
    seed="[0-9]+",


def trained(folder):
    """What a finished training run leaves in its folder."""
    return {
        "weights": f"{folder}/model/model.safetensors",
        "predictions": f"{folder}/predictions.parquet",
        "history": f"{folder}/history.jsonl",
        "run": f"{folder}/run.json",
    }


def student_code(wildcards):
    """The files that train a student of this variant's method."""
    return code_inputs("workflow_scripts/train.py", f"rkd.methods.{PLAN.method(wildcards.variant)}")


def teacher_of(wildcards):
    """The fine-tuned teacher's record and weights, for the methods that learn from one."""
    if not PLAN.needs_teacher(wildcards.variant):
        return []
    # The record names the content of the weights: their age does not matter.
    return [f"{TEACHER}/run.json", ancient(f"{TEACHER}/model/model.safetensors")]


def teacher_option(wildcards):
    """The part of the command that names the teacher."""
    return f"--teacher {TEACHER}/model".format(**wildcards) if PLAN.needs_teacher(wildcards.variant) else ""


def predictions_of(wildcards):
    """The predictions of a teacher or a student."""
    folder = TEACHER if wildcards.variant == "teacher" else STUDENT
    return f"{folder}/predictions.parquet"
