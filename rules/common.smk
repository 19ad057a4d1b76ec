# The plan, the paths and the outputs that all rules speak of.

import sys

try:
    from rkd.code_inputs import code_inputs
    from rkd.config import load
    from rkd.errors import RkdError
    from rkd.plan import Plan
    from rkd.spec import canonical_json
except ImportError as error:
    sys.exit(f"error: {error}; run `make install` and put .venv/bin into PATH, or `pip install -e .`")

try:
    PLAN = Plan(load(config))
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


for task in PLAN.tasks:

    rule:
        name:
            f"{task}_all"
        input:
            expand(METRICS, task=task, variant=["teacher", *PLAN.variants], seed=PLAN.seeds),
