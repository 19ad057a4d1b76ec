# The plan, the paths and the outputs that all rules speak of.

import gc
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Aliased: a line that starts with `report` is parsed as Snakemake's `report:` directive.
from snakemake.io import report as in_report
from snakemake.utils import update_config

# This copy of the project runs its own code, here and in its jobs, whichever rkd is installed: the digests that decide what
# runs again are of these files.
ROOT = os.path.dirname(workflow.current_basedir.get_path_or_uri(secret_free=True))
sys.path[:] = [ROOT, *(path for path in sys.path if path != ROOT)]
PYTHONPATH = os.environ.get("PYTHONPATH", "").split(os.pathsep)
os.environ.update(PYTHONPATH=os.pathsep.join([ROOT, *(path for path in PYTHONPATH if path not in ("", ROOT))]))

try:
    import rkd
    from rkd.config.load import load, read_yaml, restore_cli_types
    from rkd.errors import RkdError
    from rkd.runs import paths
    from rkd.specs.identity import DIGEST, LEFT
    from rkd.specs.jobs import TEACHER
    from rkd.utils.files import atomic_write_text, sha256
    from rkd.workflow.code_digest import code_digest
    from rkd.workflow.pins import check as check_versions
    from rkd.workflow.plan import Plan
    from rkd.workflow.snakemake_log import failed_jobs
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
    # The defaults are always those beside the Snakefile, wherever the workflow is started from or imported as a module.
    # In their order, too, as tables have their rows in that of the variants.
    settings = read_yaml(f"{ROOT}/config.yaml")
    update_config(settings, config)
    config.clear()
    config.update(settings)
    PLAN = Plan(load(restore_cli_types(config)))
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

if os.path.exists("config.yaml") and not os.path.samefile("config.yaml", f"{ROOT}/config.yaml"):
    if not any(os.path.samefile("config.yaml", file) for file in workflow.configfiles if os.path.exists(file)):
        print("note: config.yaml of this folder is not read; to use it: --configfile config.yaml", file=sys.stderr)

# The one place that says where results lie; the templates are those of rkd/runs/paths.py. Experiments share the store of
# data and runs; all else has a folder per experiment.
RESULTS = "results"
EXPERIMENT = f"{RESULTS}/{PLAN.experiment}"
DATA = f"{RESULTS}/{paths.DATA}"
RUN = f"{RESULTS}/{paths.RUN}"
CHECKPOINTS = f"{RESULTS}/{paths.CHECKPOINTS}"
METRICS = f"{EXPERIMENT}/{paths.METRICS}"
CLUSTERS = f"{EXPERIMENT}/{paths.CLUSTERS}"
TRIALS = f"{EXPERIMENT}/{paths.TRIALS}"
TRACKER = f"{EXPERIMENT}/{paths.TRACKER}"
TABLES = f"{EXPERIMENT}/{paths.TABLES}"
FIGURES = f"{EXPERIMENT}/{paths.FIGURES}"
PAGE = f"{EXPERIMENT}/{paths.PAGE}"
SUBMISSION = f"{EXPERIMENT}/{paths.SUBMISSION}"
JOB = paths.JOB
ROWS = [TEACHER, *PLAN.variants]

# `make results` shows the table of the experiment that ran, whichever config named it.
if file := os.environ.get("RKD_EXPERIMENT_FILE"):
    atomic_write_text(file, PLAN.experiment)

if earlier := [name for name in paths.EARLIER if os.path.isdir(f"{RESULTS}/{name}")]:
    print(
        f"note: {RESULTS}/ has {', '.join(earlier)} of an earlier version, which are not used; to keep them, "
        f"mkdir {RESULTS}-earlier && mv {' '.join(f'{RESULTS}/{name}' for name in earlier)} {RESULTS}-earlier",
        file=sys.stderr,
    )


wildcard_constraints:
    task="|".join(map(re.escape, PLAN.tasks)),
    variant="|".join(map(re.escape, [TEACHER, *PLAN.all_variants, *PLAN.candidates])),
    digest=DIGEST,
    axis="|".join(map(re.escape, PLAN.axes)) or "none",
    seed="[0-9]+",


def log_of(rule, job=""):
    """Return the log of a rule's jobs."""
    return f"{EXPERIMENT}/{paths.log(rule, job)}"


def benchmark_of(rule, job=""):
    """Return the file of the resources that a rule's jobs took."""
    return f"{EXPERIMENT}/{paths.benchmark(rule, job)}"


def measurement(kind, task="{task}"):
    """The file of a measurement, "efficiency" of models or "cost" of training steps."""
    return f"{EXPERIMENT}/{paths.MEASUREMENT}".format(kind=kind, task=task)


def table(name):
    """A table in the formats that it is written in."""
    return [f"{TABLES}/{name}.{suffix}" for suffix in ("csv", "md", "tex", "html")]


def figure(name):
    """A figure in the two formats that it is drawn in."""
    return [f"{FIGURES}/{name}.{suffix}" for suffix in ("pdf", "png")]


def reported(files, category, title, caption):
    """Output files, of which the last, made for a browser, also goes into `snakemake --report`."""
    *others, shown = files
    labels = {"shows": title, "as": "figure" if shown.endswith(".png") else "table"}
    return [*others, in_report(shown, caption=f"captions/{caption}.rst", category=category, labels=labels)]


def runs(pattern, variants, tasks=None):
    """One file of every run of the variants; in the report-only mode of those that there are."""
    return files_of(
        pattern,
        [
            PLAN.run(task, variant, seed)
            for task in (PLAN.tasks if tasks is None else tasks)
            for variant in variants
            for seed in PLAN.seeds
        ],
    )


def files_of(pattern, planned):
    """One file of every planned run; in the report-only mode of those that there are."""
    files = [pattern.format(**run._asdict()) for run in planned]
    return [file for file in files if os.path.exists(file)] if PLAN.report_only else files


def files_of_data(name):
    """A file of each task's prepared data; in the report-only mode where there is one."""
    files = [f"{DATA}/{name}".format(task=task, digest=PLAN.data_digest(task)) for task in PLAN.tasks]
    return [file for file in files if os.path.exists(file)] if PLAN.report_only else files


def base_of(output):
    """The start of the paths of an experiment's files: the place where a storage's files are copied, else nothing."""
    return output[0].rpartition(f"{EXPERIMENT}/")[0]


def working_folder(wildcards, output):
    """The folder in which tables and figures are made, so that they name their sources as results/…; not compared."""
    return base_of(output) or "."


def axis_runs(axis):
    """Metrics of all runs of an axis of ablation."""
    return runs(METRICS, PLAN.axes[axis].variants, PLAN.axes[axis].tasks)


def measured_models(wildcards):
    """The models whose speed is measured: the teacher, the students' one, and students that differ."""
    rows = {"teacher": TEACHER, "student": PLAN.variants[0]}
    rows |= {name: name for name in PLAN.all_variants if PLAN.has_own_student(name)}
    return {row: f"{folder_of(wildcards.task, variant, PLAN.seeds[0])}/model" for row, variant in rows.items()}


def folder_of(task, variant, seed):
    """The folder of a run of a variant, or of the teacher."""
    return RUN.format(**PLAN.run(task, variant, seed)._asdict())


def write_trials():
    """Write what a teacher's job reads beside its inputs, so that a new variant trains no teacher anew."""
    for task in [] if PLAN.report_only else PLAN.tasks:
        atomic_write_text(TRIALS.format(task=task), PLAN.trials(task))


# Of a workflow that is imported as a module, Snakemake does not run `onstart`.
if os.path.realpath(workflow.basedir) != os.path.realpath(ROOT):
    write_trials()


def lost_logs():
    """Logs of the runs without a result, in the report-only mode: the report tells what they end with."""
    logs = []
    for run in PLAN.runs() if PLAN.report_only else []:
        if not os.path.exists(f"{RUN}/run.json".format(**run._asdict())):
            logs.append(str(run.log(Path(EXPERIMENT))))
    return [log for log in logs if os.path.exists(log)]


def digests(*files):
    """The content of files that may not be there."""
    return [sha256(file)[:12] for file in files if os.path.exists(file)]


AXES = [axis for axis in PLAN.axes if axis_runs(axis)]
# Only what there are runs for: without a trainable teacher it has no dynamics, and the report-only mode may lack anything.
STUDENT_METRICS, ALL_METRICS = runs(METRICS, PLAN.variants), runs(METRICS, ROWS)
HISTORIES = runs(f"{RUN}/history.jsonl", PLAN.variants)
PREDICTIONS, ALL_PREDICTIONS = (runs(f"{RUN}/predictions.parquet", rows) for rows in (PLAN.variants, ROWS))
RECORDS = runs(f"{RUN}/run.json", PLAN.variants)
CLUSTER_FILES = [CLUSTERS.format(task=task) for task in PLAN.tasks if PLAN.clusters(task)]
CLUSTER_FILES = [file for file in CLUSTER_FILES if not PLAN.report_only or os.path.exists(file)]
TABLE_NAMES = [
    "main",
    *(["comparisons", "behaviour"] if PREDICTIONS else []),
    *(["classes"] if PREDICTIONS and PLAN.lists_classes() else []),
    *(["selection"] if HISTORIES else []),
    *(f"ablation_{axis}" for axis in AXES),
    "provenance",
]
FIGURE_NAMES = [
    *(["forest"] if PREDICTIONS and len(PLAN.variants) > 1 else []),
    *(["learning_curves"] if HISTORIES else []),
    *(["teacher_dynamics"] if runs(f"{RUN}/history.jsonl", PLAN.with_trainable_teacher) else []),
    *(["cost"] if STUDENT_METRICS and RECORDS else []),
    *(f"ablation_{axis}" for axis in AXES),
]
TABLE_FILES = [file for name in TABLE_NAMES for file in table(name)]
FIGURE_FILES = [file for name in FIGURE_NAMES for file in figure(name)]
ABLATION_FILES = [file for axis in AXES for draw in (table, figure) for file in draw(f"ablation_{axis}")]
if PLAN.report_only and not ALL_METRICS:
    sys.exit(
        f"error: report_only: found no metrics of this config's runs in {EXPERIMENT}/metrics; expected those of one run at least"
    )


def if_stored(**files):
    """Files that only a storage must be told of: without one they lie beside those that are named.

    Each named file of each run costs the plan of a thousand runs some tenths of a second.
    """
    return files if workflow.storage_settings.default_storage_provider else {}


def teachers(template):
    """A template of the path of a run, for teachers only."""
    return template.replace("{variant}", TEACHER)


def trained(folder):
    """What a finished training run leaves in its folder."""
    return {
        "weights": f"{folder}/model/model.safetensors",
        **if_stored(
            config=f"{folder}/model/config.json",
            tokenizer=[f"{folder}/model/tokenizer.json", f"{folder}/model/tokenizer_config.json"],
        ),
        "predictions": f"{folder}/predictions.parquet",
        "logits": f"{folder}/logits.parquet",
        "history": f"{folder}/history.jsonl",
        "run": f"{folder}/run.json",
    }


def student_code(wildcards):
    """The code that trains a student of this variant's method."""
    return code_digest("workflow_scripts/train.py", f"rkd.methods.{PLAN.method(wildcards.variant)}")


def any_of(names):
    """The regular expression of a wildcard that is one of some names, or none."""
    return "|".join(map(re.escape, names)) or "(?!)"


def verbatim(value):
    """A parameter as it is: in one that is no function, Snakemake takes what stands in braces for a wildcard."""
    return lambda wildcards: value


def data_folder(wildcards):
    """The folder of a task's prepared data."""
    return DATA.format(task=wildcards.task, digest=PLAN.data_digest(wildcards.task))


def data_manifest(wildcards):
    """The manifest of a task's prepared data."""
    return f"{data_folder(wildcards)}/manifest.json"


def data_files(wildcards):
    """The dataset and tokenizer of a task. The manifest names their content: their age does not matter."""
    return [ancient(f"{data_folder(wildcards)}/{part}") for part in ("dataset", "tokenizer")]


def script(name):
    """A script of the project, wherever the workflow is started from.

    Parameters of functions that take `input` or `output` are not compared when Snakemake looks for changes: neither
    the place of the project nor that of a file in a storage decides a result.
    """
    return lambda wildcards, output: f"{ROOT}/workflow_scripts/{name}"


def folder_of_input(name):
    """The folder of an input, wherever a storage puts it; not compared."""
    return lambda wildcards, input: os.path.dirname(input.get(name))


def folder_of_output(name):
    """The folder of an output, likewise."""
    return lambda wildcards, output: os.path.dirname(output.get(name))


def own_files(wildcards, output):
    """The user's files of a custom task, as SPLIT=PATH.

    No input, as a path may hold braces, and because their content is part of the spec: neither their age nor their
    place matters.
    """
    return [f"{split}={path}" for split, path in PLAN.files(wildcards.task).items()]


def teacher_of(wildcards):
    """Records and weights of what a student learns from: a fine-tuned teacher, several, or one that a run left behind."""
    files = []
    teachers, matched = PLAN.learns_from(wildcards.task, wildcards.variant, int(wildcards.seed))
    for folder in (f"{RESULTS}/{place}" for place in [*teachers, *([matched] if matched else [])]):
        # The record names the content of the weights: their age does not matter.
        files += [ancient(f"{folder}/model.safetensors"), *if_stored(config=f"{folder}/config.json").values()]
        files.append(f"{os.path.dirname(folder)}/run.json")
    return files


def teacher_options(wildcards, input):
    """The parts of the command that name the teachers' models; not compared, see `script`."""
    folders = [os.path.dirname(file) for file in input.teacher if file.endswith(".safetensors")]
    _, matched = PLAN.learns_from(wildcards.task, wildcards.variant, int(wildcards.seed))
    options = ["--entropy-of", folders.pop()] if matched else []
    options += ["--teacher", *folders] if folders else []
    return shlex.join([*options, *(["--keep-teacher"] if wildcards.variant in PLAN.with_teacher_kept else [])])


def student_spec(wildcards, output):
    """The spec of a student. Its digest is in the path of the run, so it is not compared as a parameter."""
    return PLAN.student(wildcards.task, wildcards.variant, int(wildcards.seed)).json()


def teacher_spec(wildcards, output):
    """The spec of a teacher, likewise."""
    return PLAN.teacher_of_digest(wildcards.task, wildcards.digest, int(wildcards.seed)).json()


def data_spec(wildcards, output):
    """The spec of a task's data, likewise."""
    return PLAN.data(wildcards.task).json()


def cluster_spec(wildcards, output):
    """The spec of a task's clusters; `decides` is the part of it that is compared."""
    return PLAN.clusters(wildcards.task).json()


def not_compared(value):
    """A parameter that does not decide a result, such as a folder of the experiment: see `script`."""
    return lambda wildcards, output: value.format(**wildcards)


def submitted(wildcards):
    """Predictions for the GLUE server, which knows the answers to the official test sets alone."""
    if synthetic := [task for task in PLAN.glue_tasks if PLAN.is_synthetic(task)]:
        sys.exit(
            f"error: submissions: found synthetic data for {', '.join(synthetic)}; expected the official test sets: "
            "data_source: hub, or glue_dir: PATH"
        )
    return runs(f"{RUN}/predictions.parquet", [wildcards.variant], PLAN.glue_tasks)


@dataclass
class Product:
    """A table or figure of the report; rules/report.smk makes a rule of each.

    Attributes:
        name: the name of the rule.
        files: what it writes, from `table` or `figure`.
        shown: its category and title in `snakemake --report`.
        caption: the name of the caption's file there.
        script: the script that makes it.
        inputs: lists of files by the script's option that takes them; functions of wildcards where they depend on these.
        options: the script's other options.
        spec: the JSON of the script's spec, if it takes one; a function of wildcards likewise.
        reads: files of the project that it depends on besides Python code.
    """

    name: str
    files: Sequence[str]
    shown: tuple[str, str]
    caption: str
    script: str
    inputs: Mapping[str, object]
    options: str = ""
    spec: object = None
    reads: Sequence[str] = ()

    @property
    def job(self):
        """What tells the jobs of the rule apart."""
        return "{axis}" if "{axis}" in self.files[0] else ""

    @property
    def outputs(self):
        """The files for the rule's output, and the record beside them."""
        stem = self.files[0].rsplit(".", 1)[0]
        category, title = self.shown
        return [*reported(self.files, category, title, self.caption), f"{stem}.json"]

    @property
    def arguments(self):
        """The script's options but for its inputs."""
        stem = self.files[0].rsplit(".", 1)[0]
        place = f"--out-dir {TABLES}" if stem.startswith(f"{TABLES}/") else f"--out {stem}"
        return " ".join(filter(None, ["--spec -" if self.spec else "", place, self.options]))


def options_of_inputs(wildcards, input, output):
    """The named inputs as options of the script.

    It takes `input`, so that Snakemake does not compare it as a parameter: inputs are compared on their own.
    """
    return " ".join(
        shlex.join([f"--{name.replace('_', '-')}", *(file.removeprefix(base_of(output)) for file in input.get(name))])
        for name in input.keys()
    )
