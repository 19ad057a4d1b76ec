# The plan, the paths and the outputs that all rules speak of.

import gc
import os
import re
import sys

# Under its own name a line that starts with it, as a formatter may lay it out, would be a keyword of Snakemake.
from snakemake.io import report as in_report

# This copy of the project runs its own code, here and in its jobs, whichever rkd is installed: the digests that decide what
# runs again are of these files.
ROOT = os.path.dirname(workflow.current_basedir.get_path_or_uri(secret_free=True))
sys.path[:] = [ROOT, *(path for path in sys.path if path != ROOT)]
PYTHONPATH = os.environ.get("PYTHONPATH", "").split(os.pathsep)
os.environ.update(PYTHONPATH=os.pathsep.join([ROOT, *(path for path in PYTHONPATH if path not in ("", ROOT))]))

try:
    import rkd
    from rkd.workflow.code_digest import code_digest
    from rkd.config.load import order_like, load, restore_cli_types
    from rkd.errors import RkdError
    from rkd.workflow.snakemake_log import failed_jobs
    from rkd.workflow.plan import Plan
    from rkd.utils.files import atomic_write_text, sha256
    from rkd.specs.jobs import canonical_json
    from rkd.workflow.pins import check as check_versions
except ImportError as error:
    sys.exit(f"error: {error}; run `make results` once, then put .venv/bin into PATH, or `pip install -e .`")

if not os.path.samefile(os.path.dirname(rkd.__file__), os.path.join(ROOT, "rkd")):
    sys.exit(f"error: found the rkd of {os.path.dirname(rkd.__file__)}; expected that of {ROOT}: start a new process")

# A plan of thousands of jobs makes millions of objects, hardly any of which is garbage: it is looked for less often, which
# spares a tenth of the time.
gc.set_threshold(100_000, 50, 100)

if {*"{}"} & {*workflow.basedir}:
    sys.exit(f"error: {workflow.basedir}: found braces, which Snakemake takes for a wildcard; expected another folder")

try:
    check_versions()
    PLAN = Plan(load(order_like(restore_cli_types(config), "config.yaml")))
except RkdError as error:
    sys.exit(f"error: {error}")

# Jobs inherit this: the hub's libraries stay off the network unless the config takes data or models from there.
os.environ.update(HF_HUB_DISABLE_TELEMETRY="1")
if not PLAN.needs_hub:
    os.environ.update(HF_HUB_OFFLINE="1")

# A training or a measurement takes one GPU (rkd/workflow/gpu_slots.py), unless it is to run on the CPU.
GPU_RESOURCES = {
    "device": PLAN.config["device"],
    "gpu": int(PLAN.config["device"] != "cpu"),
    # Not "gpus", which the Slurm plugin takes for a number.
    "gpu_names": ",".join(map(str, PLAN.config["gpus"] or ["all"])),
    "jobs_per_gpu": PLAN.config["jobs_per_gpu"],
}
DATA = "results/data/{task}"
TEACHER = "results/teachers/{task}/seed-{seed}"
STUDENT = "results/students/{task}/{variant}/seed-{seed}"
# The students of a task, a spec per line: each is tried for a step before the teacher is trained.
TRIALS = "results/.trials/{task}.jsonl"
METRICS = "results/metrics/{task}/{variant}/seed-{seed}.json"
EVERY_VARIANT = ["teacher", *PLAN.all_variants]


wildcard_constraints:
    task="|".join(map(re.escape, PLAN.tasks)),
    variant="|".join(map(re.escape, EVERY_VARIANT)),
    axis="|".join(map(re.escape, PLAN.axes)) or "none",
    seed="[0-9]+",


def table(name):
    """A table in the formats that it is written in."""
    return [f"results/tables/{name}.{suffix}" for suffix in ("csv", "md", "tex", "html")]


def figure(name):
    """A figure in the two formats that it is drawn in."""
    return [f"results/figures/{name}.{suffix}" for suffix in ("pdf", "png")]


def reported(files, category, title, caption):
    """Output files, of which the last, made for a browser, also goes into `snakemake --report`."""
    *others, shown = files
    labels = {"shows": title, "as": "figure" if shown.endswith(".png") else "table"}
    return [*others, in_report(shown, caption=f"captions/{caption}.rst", category=category, labels=labels)]


def runs(pattern, variants, tasks=None):
    """One file of every run of the variants; in the report-only mode of those that there are."""
    files = expand(pattern, task=PLAN.tasks if tasks is None else tasks, variant=variants, seed=PLAN.seeds)
    return [file for file in files if os.path.exists(file)] if PLAN.report_only else files


def axis_variants(axis):
    """The variants of an axis of ablation, each once."""
    return list(dict.fromkeys(cell.variant for cell in PLAN.axes[axis]))


def axis_runs(axis):
    """Metrics of all runs of an axis of ablation."""
    return runs(METRICS, axis_variants(axis), PLAN.axes[axis][0].tasks)


def measured_models(wildcards):
    """The models whose speed is measured: the teacher, the students' one, and students that differ."""
    seed = PLAN.seeds[0]
    rows = {"teacher": TEACHER, "student": STUDENT.replace("{variant}", PLAN.variants[0])}
    rows |= {name: STUDENT.replace("{variant}", name) for name in PLAN.all_variants if PLAN.has_own_student(name)}
    return {row: f"{folder}/model".format(task=wildcards.task, seed=seed) for row, folder in rows.items()}


def folder_of(variant):
    """Where the runs of a variant, or of the teacher, lie."""
    return TEACHER if variant == "teacher" else STUDENT


def all_runs(name):
    """A file that every training run leaves, by the runs of the plan; in the report-only mode of those that there are."""
    files = [
        f"{folder_of(variant)}/{name}".format(task=task, variant=variant, seed=seed)
        for task, variant, seed in PLAN.runs()
    ]
    return [file for file in files if os.path.exists(file)] if PLAN.report_only else files


def lost_logs():
    """Logs of the runs without a result, in the report-only mode: the report tells what they end with."""
    logs = []
    for task, variant, seed in PLAN.runs() if PLAN.report_only else []:
        folder = folder_of(variant).format(task=task, variant=variant, seed=seed)
        if not os.path.exists(f"{folder}/run.json"):
            job = "finetune_teacher" if variant == "teacher" else "train_student"
            logs.append(f"results/logs/{job}/{folder.split('/', 2)[2]}.log")
    return [log for log in logs if os.path.exists(log)]


def digests(*files):
    """The content of files that may not be there."""
    return [sha256(file)[:12] for file in files if os.path.exists(file)]


AXES = [axis for axis in PLAN.axes if axis_runs(axis)]
# Only what there are runs for: without a trainable teacher it has no dynamics, and the report-only mode may lack anything.
STUDENT_METRICS = runs(METRICS, PLAN.variants)
HISTORIES = runs(f"{STUDENT}/history.jsonl", PLAN.variants)
PREDICTIONS = runs(f"{STUDENT}/predictions.parquet", PLAN.variants)
TABLE_NAMES = [
    "main",
    *(["comparisons"] if PREDICTIONS else []),
    *(["selection"] if HISTORIES else []),
    *(f"ablation_{axis}" for axis in AXES),
    "provenance",
]
FIGURE_NAMES = [
    *(["learning_curves"] if HISTORIES else []),
    *(["teacher_dynamics"] if runs(f"{STUDENT}/history.jsonl", PLAN.moving) else []),
    *(["cost"] if STUDENT_METRICS and runs(f"{STUDENT}/run.json", PLAN.variants) else []),
    *(f"ablation_{axis}" for axis in AXES),
]
TABLES = [file for name in TABLE_NAMES for file in table(name)]
FIGURES = [file for name in FIGURE_NAMES for file in figure(name)]
ABLATION_TABLES = [file for axis in AXES for file in table(f"ablation_{axis}")]
ABLATION_FIGURES = [file for axis in AXES for file in figure(f"ablation_{axis}")]
if PLAN.report_only and not (STUDENT_METRICS or runs(METRICS, ["teacher"])):
    sys.exit(
        "error: report_only: found no metrics of this config's runs in results/metrics; expected those of one run at least"
    )


def trained(folder):
    """What a finished training run leaves in its folder."""
    return {
        "weights": f"{folder}/model/model.safetensors",
        "predictions": f"{folder}/predictions.parquet",
        "history": f"{folder}/history.jsonl",
        "run": f"{folder}/run.json",
    }


def student_code(wildcards):
    """The code that trains a student of this variant's method."""
    return code_digest("workflow_scripts/train.py", f"rkd.methods.{PLAN.method(wildcards.variant)}")


def verbatim(value):
    """A parameter as it is: in one that is no function, Snakemake takes what stands in braces for a wildcard."""
    return lambda wildcards: value


def own_files(wildcards, output):
    """The user's files of a task of one's own by split, as JSON.

    No input, as a path may hold braces, and because their content is part of the spec: neither their age nor their
    place matters. Parameters of functions that take `output` are not compared when Snakemake looks for changes.
    """
    return canonical_json(PLAN.files(wildcards.task))


def teacher_of(wildcards):
    """The fine-tuned teacher's record and weights, for the methods that learn from one."""
    if not PLAN.needs_teacher(wildcards.variant):
        return []
    # The record names the content of the weights: their age does not matter.
    return [f"{TEACHER}/run.json", ancient(f"{TEACHER}/model/model.safetensors")]


def teacher_option(wildcards):
    """The part of the command that names the teacher."""
    return f"--teacher {TEACHER}/model".format(**wildcards) if PLAN.needs_teacher(wildcards.variant) else ""


def submitted(wildcards):
    """Predictions for the GLUE server, which knows the answers to the official test sets alone."""
    if synthetic := [task for task in PLAN.glue_tasks if PLAN.is_synthetic(task)]:
        sys.exit(
            f"error: submissions: found synthetic data for {', '.join(synthetic)}; expected the official test sets: "
            "data_source: hub, or glue_dir: PATH"
        )
    return runs(f"{STUDENT}/predictions.parquet", [wildcards.variant], PLAN.glue_tasks)


def predictions_of(wildcards):
    """The predictions of a teacher or a student."""
    return f"{folder_of(wildcards.variant)}/predictions.parquet"
