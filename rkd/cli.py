"""The command `rkd`: one distillation, predictions, scores, exports and checks, without the workflow."""

import contextlib
import inspect
import json
import logging
import re
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from rkd.config.arguments import ArgumentError, Wrong
from rkd.errors import RkdError
from rkd.methods.facts import METHODS
from rkd.utils.files import jsonable
from rkd.utils.option_values import AsSnakemake, labels_of, pairs, score_range
from rkd.utils.script import run_script
from rkd.utils.torch_setup import gc_paused

# Heavy libraries are imported in the commands that need them: --help and completion are quick.
app = typer.Typer(
    name="rkd",
    help="Reptile knowledge distillation: compress a fine-tuned classifier with a teacher that learns to teach.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Text = Annotated[list[str] | None, typer.Option(help="Text column; give it twice for pairs.")]
ModelFolder = Annotated[
    str, typer.Argument(metavar="MODEL", help="A run's folder, an export, a folder of a classifier, or a hub name.")
]


def _examples(*lines: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


@app.command(
    epilog=_examples(
        "rkd distill --teacher my-teacher --student nreimers/MiniLM-L3-H384-uncased \\",
        "    --data reviews.csv --text review --label mood --out distilled",
        "rkd distill --teacher bert-base-uncased --finetune-teacher --student teacher-layers:1,3,5,7,9,11 \\",
        "    --data pairs.jsonl --text question --text answer --label good -o alpha=0.7 -s epochs=3 --out distilled",
    )
)
def distill(
    data: Annotated[Path, typer.Option(help="Training rows: .csv, .tsv, .jsonl or .parquet.")],
    student: Annotated[str, typer.Option(help="Folder, hub name, *.json config, or teacher-layers:1,3.")],
    text: Annotated[list[str], typer.Option(help="Text column; give it twice for pairs.")],
    label: Annotated[
        list[str],
        typer.Option(help="Column of the label or score; once for each if labels have columns of 0 and 1."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for everything; an interrupted run continues from here.")],
    teacher: Annotated[
        str | None,
        typer.Option(help="Fine-tuned classifier: folder or hub name (NAME@REVISION pins it); finetune needs none."),
    ] = None,
    dev: Annotated[
        Path | None, typer.Option(help="Labelled rows for evaluation; by default a fraction of the data.")
    ] = None,
    test: Annotated[Path | None, typer.Option(help="Rows to predict.")] = None,
    unlabelled: Annotated[
        Path | None, typer.Option(help="Further training rows without labels: the teacher says what they are.")
    ] = None,
    soft_labels: Annotated[
        list[str] | None,
        typer.Option(
            help="Column of a label's probability (give it per label), or a file of them; replaces --teacher."
        ),
    ] = None,
    method: Annotated[str, typer.Option(help=f"{', '.join(METHODS)}.")] = "reptile",
    option: Annotated[list[str] | None, typer.Option("--option", "-o", help="KEY=VALUE of the method.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--setting", "-s", help="KEY=VALUE of the training; of several learning_rates the best is kept."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help='Labels in the teacher\'s order, separated by commas: good,bad,"yes, but".')
    ] = None,
    multi_label: Annotated[
        bool, typer.Option("--multi-label", help="A text may have several labels, or none: angry;sad.")
    ] = False,
    label_separator: Annotated[str, typer.Option(help="What stands between the labels of --multi-label.")] = ";",
    scores: Annotated[str | None, typer.Option(help="Regression: LOW,HIGH or any.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Metric; by default accuracy, or correlations.")] = None,
    finetune_teacher: Annotated[bool, typer.Option(help="Fine-tune a pretrained teacher first.")] = False,
    teacher_setting: Annotated[list[str] | None, typer.Option(help="KEY=VALUE of that fine-tuning.")] = None,
    student_tokenizer: Annotated[
        str,
        typer.Option(help="teacher, or own: the student has a vocabulary of its own (kd, online, lgtm, metadistil)."),
    ] = "teacher",
    seed: int = 1,
    max_length: Annotated[
        int, typer.Option(help="Maximum length of a text in tokens; longer ones are truncated.")
    ] = 128,
    vocab_size: Annotated[
        int, typer.Option(help="Size of the vocabulary that is built if both models are *.json configs.")
    ] = 2000,
    device: Device = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    tensorboard: Annotated[Path | None, typer.Option(help="Folder for TensorBoard files.")] = None,
    as_json: Json = False,
) -> None:
    """Distil a teacher into a student on your own data."""
    from rkd.api import distill as function
    from rkd.distillation.request import Request

    settings = pairs("--setting", setting, several=["learning_rate"])
    for key in settings:
        if key in inspect.signature(function).parameters:
            raise RkdError(
                f"--setting: found {key}, which is an option of its own; expected a training setting (see --help)"
            )
    request = Request(
        data=data,
        teacher=teacher,
        student=student,
        text=text,
        label=label[0] if len(label) == 1 else label,
        dev=dev,
        test=test,
        unlabelled=unlabelled,
        soft_labels=_columns_or_file(soft_labels),
        method=method,
        options=pairs("--option", option),
        labels=labels_of(labels),
        multi_label=multi_label,
        label_separator=label_separator,
        scores=score_range(scores),
        metrics=metric or None,
        finetune_teacher=pairs("--teacher-setting", teacher_setting) or finetune_teacher,
        student_tokenizer=student_tokenizer,
        out=out,
        seed=seed,
        max_length=max_length,
        vocab_size=vocab_size,
        device=device,
        threads=threads,
        tensorboard=tensorboard,
        settings=settings,
    )
    with _importing():
        from rkd.distillation.job import carry_out
    with _by_options(pairs("--teacher-setting", teacher_setting)):
        result = carry_out(request)
    lines = [_numbers(split, found) for split, found in result.metrics["splits"].items()]
    lines.append(f"student: {result.folder}")
    _tell(as_json, {**result.metrics, "folder": str(result.folder)}, "\n".join(lines))


@app.command(
    epilog=_examples(
        "rkd predict distilled/student new.csv --out answers.csv",
        "rkd predict my-export new.jsonl --text question --text answer --json",
    )
)
def predict(
    model: ModelFolder,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Rows to predict: .csv, .tsv, .jsonl or .parquet.")],
    text: Text = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write, or to replace; by default predictions are printed as CSV.")
    ] = None,
    predictions_only: Annotated[
        bool, typer.Option("--predictions-only", help="Leave out the columns of DATA.")
    ] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Predict the rows of a file: its columns, the prediction, and for labels their probabilities."""
    from rkd.config.arguments import check_classifier

    check_classifier(model, text or None, device=device, file=data, out=out)
    with _importing():
        from rkd.data.reading import lines
        from rkd.inference import Classifier, columns_of, write_table
    frame = Classifier(model, text or None, device=device).predict(data, keep_columns=not predictions_only)
    if out is not None:
        write_table(frame, out, None if predictions_only else data)
        _tell(as_json, {"rows": len(frame), "out": str(out)}, f"{out}: {len(frame)} rows")
    else:
        columns = columns_of(frame)
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        print(
            json.dumps(jsonable(rows), ensure_ascii=False, default=str)
            if as_json
            else "".join(lines(".csv", columns, "predictions")).removesuffix("\n")
        )


@app.command(
    epilog=_examples(
        "rkd evaluate distilled/student dev.csv",
        "rkd evaluate my-export dev.csv --text review --label mood --metric macro_f1 --json",
    )
)
def evaluate(
    model: ModelFolder,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Labelled rows: .csv, .tsv, .jsonl or .parquet.")],
    text: Text = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="Column of the label or score; once for each if labels have columns of 0 and 1."),
    ] = None,
    label_separator: Annotated[
        str | None, typer.Option(help="What stands between several labels of a text; by default the run's, else ;.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Metric; by default all of the run's task."),
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Score a model on a labelled file: its metrics, and precision, recall and F1 of every class."""
    from rkd.config.arguments import check_classifier

    given = None if not label else label[0] if len(label) == 1 else label
    check_classifier(model, text or None, given, device=device, file=data, labelled=True, metrics=metric or None)
    with _importing():
        from rkd.inference import Classifier
    scored = Classifier(model, text or None, given, device, label_separator)
    found = scored.evaluate(data, metric or None, each_class=True)
    numbers = {key: value for key, value in found.items() if key not in ("classes", "confusion")}
    _tell(as_json, found, "\n".join([_numbers(str(data), numbers), *_by_class(found)]))


@app.command(
    epilog=_examples(
        "rkd export distilled/student my-student", "rkd export results/runs/mrpc/kd-012345abcd/seed-1 out --onnx"
    )
)
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder to write: new, empty, or an unchanged export of this run.")
    ],
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Also write ONNX with the same logits (needs the extra onnx).")
    ] = False,
    quantize: Annotated[
        bool, typer.Option("--quantize", help="Also write ONNX in int8, scored on dev (needs the extra onnx).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a student as a folder that transformers.pipeline opens, with a model card."""
    from rkd.config.arguments import check_export

    check_export(run, out)
    with _importing():
        from rkd.export import export as write
    folder = write(run, out, onnx=onnx, quantize=quantize)
    files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    _tell(as_json, {"folder": str(folder), "files": files}, f"{folder}: {', '.join(files)}")


@app.command(
    epilog=_examples(
        "rkd benchmark distilled/teacher distilled/student --data reviews.csv",
        "rkd benchmark my-export --data new.csv --text review --threads 1 --json",
    )
)
def benchmark(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL…", help="Run's folders, exports, folders of classifiers, or hub names."),
    ],
    data: Annotated[Path, typer.Option(help="Texts to measure on: .csv, .tsv, .jsonl or .parquet.")],
    text: Text = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts of a batch.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="Timed repetitions.")] = 30,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Compare size, latency and throughput of models on this machine, the first one as the base."""
    from dataclasses import asdict

    with _importing():
        from rkd.benchmark import benchmark as measure
    found = measure(models, data, text or None, device=device, threads=threads, batch_size=batch_size, rounds=rounds)
    base, width = found[0], max(len(one.model) for one in found)
    heads = ("parameters", "MB", "ms per text", "texts per s", "speed")
    lines = [f"{'':<{width}}  " + "  ".join(f"{head:>11}" for head in heads)]
    for one in found:
        shown = (
            f"{one.parameters / 1e6:.1f}M",
            f"{one.megabytes:.1f}",
            f"{one.latency_ms:.2f}",
            f"{one.throughput:.1f}",
            f"{one.throughput / base.throughput:.2f} ×",
        )
        lines.append(f"{one.model:<{width}}  " + "  ".join(f"{cell:>11}" for cell in shown))
    _tell(as_json, [asdict(one) for one in found], "\n".join(lines))


@app.command(
    epilog=_examples("rkd verify", "rkd verify results/runs/mrpc results/demo/tables --json", "rkd verify distilled")
)
def verify(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Results folders, runs or files, or folders that rkd distill wrote; by default results."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Recompute hashes, metrics and tables of results and report mismatches (exit code 1)."""
    from dataclasses import asdict

    from rkd.verify import verify as check

    checked = check(paths or [Path("results")])
    found = {"counts": dict(checked.counts), "findings": [asdict(finding) for finding in checked.findings]}
    _tell(as_json, found, str(checked))
    if checked.mismatches:
        raise typer.Exit(1)


@app.command(
    cls=AsSnakemake,
    epilog=_examples(
        "rkd plan",
        "rkd plan --configfile configs/cpu.yaml mine.yaml --config glue_dir=data/glue --json",
        "rkd plan tables",
    ),
)
def plan(
    targets: Annotated[list[str] | None, typer.Argument(help="Targets of the workflow; by default all.")] = None,
    configfile: Annotated[list[Path] | None, typer.Option(help="Overlays on config.yaml, one or several.")] = None,
    config: Annotated[list[str] | None, typer.Option(help="KEY=VALUE over the files, one or several.")] = None,
    flops_per_second: Annotated[float, typer.Option(help="Assumed speed where none was measured.")] = 5e10,
    variances: Annotated[
        Path | None, typer.Option(help="comparisons.csv with variances; by default that of the experiment, if any.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what the workflow would run here, how long that takes, and which differences it could find."""
    from dataclasses import asdict

    from rkd.report.precision import format_precision, precision
    from rkd.workflow import forecast

    files = configfile or []
    checked = _plan_of(files, config)
    arguments = ["--configfile", *map(str, files)] * bool(files) + ["--config", *(config or ())] * bool(config)
    jobs = forecast.planned_jobs([*(targets or ()), *arguments])
    trainings = forecast.estimate(checked, jobs, Path("results"), flops_per_second)
    own = Path("results") / checked.experiment / "tables/comparisons.csv"
    source = variances or (own if own.is_file() else None)
    shown = precision(checked, source) if source else []
    if variances and not shown:
        raise RkdError(f"{variances}: found no variance over seeds; expected two seeds or more of planned tasks")
    found = forecast.summary(jobs, trainings, flops_per_second)
    text = "\n".join(filter(None, [forecast.format_summary(found), format_precision(shown)]))
    _tell(as_json, found | {"precision": [asdict(one) for one in shown]}, text)


def _columns_or_file(given: list[str] | None) -> list[str] | str | None:
    """Return what --soft-labels gives: a file, if it is one value with the extension of one, else columns.

    Raises:
        RkdError: files among several values.
    """
    from rkd.data.reading import SUFFIXES

    files = [name for name in given or () if Path(name).suffix.lower() in SUFFIXES]
    if given and len(given) > 1 and files:
        raise RkdError(f"--soft-labels: found {', '.join(map(repr, given))}; expected either one file or columns")
    return files[0] if files else given or None


def _plan_of(files: list[Path], config: list[str] | None) -> Any:
    from rkd.config.problems import ConfigError
    from rkd.workflow.forecast import merged_config

    try:
        return merged_config(files, pairs("--config", config))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)  # one line for each problem, as `snakemake` prints them
        raise typer.Exit(2) from None


@app.command(
    cls=AsSnakemake,
    epilog=_examples("rkd fetch configs/paper.yaml", "rkd fetch configs/cpu.yaml --config 'tasks=[mrpc]' --json"),
)
def fetch(
    configfile: Annotated[list[Path] | None, typer.Argument(help="Overlays on config.yaml; by default none.")] = None,
    config: Annotated[list[str] | None, typer.Option(help="KEY=VALUE over the files, one or several.")] = None,
    as_json: Json = False,
) -> None:
    """Download a config's data and models from the hub and verify them: jobs then need no network."""
    _logging()
    from dataclasses import asdict

    from rkd.workflow.fetch import fetch as each_of

    found = []
    for each in each_of(_plan_of(configfile or [], config)):
        found.append(each)
        if not as_json:
            print(each, flush=True)
    if as_json or not found:
        _tell(as_json, [asdict(each) for each in found], "nothing to fetch: this config takes nothing from the hub")


@app.command(epilog=_examples("rkd runs", "rkd runs --json"))
def runs(
    results: Annotated[Path, typer.Argument(help="Folder of results.")] = Path("results"),
    as_json: Json = False,
) -> None:
    """List the finished runs: score, start, digest, task, variant, seed, and settings that differ between runs."""
    from dataclasses import asdict

    from rkd.workflow.store import stored_runs

    found = stored_runs(results)
    _tell(as_json, [asdict(each) for each in found], "\n".join(map(str, found)) or f"{results}: no finished runs")


@app.command(epilog=_examples("rkd prune config.yaml configs/cpu.yaml", "rkd prune config.yaml --yes"))
def prune(
    configs: Annotated[
        list[str], typer.Argument(help="Configs whose runs stay: config.yaml, overlays on it, or several joined by +.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; by default they are only listed.")] = False,
    as_json: Json = False,
) -> None:
    """List runs, checkpoints, data and metrics in results that no given config plans; remove them with --yes."""
    from rkd.workflow.store import remove, unplanned

    plans = [_plan_of([Path(file) for file in each.split("+")], None) for each in configs]
    found = unplanned(Path("results"), plans)
    if yes:
        remove(found)
    size = sum(each.size for each in found) / 2**20
    end = "removed" if yes else "would be removed by --yes"
    lines = [*map(str, found), f"{len(found)} folders or files, {size:.1f} MiB {end}" if found else "nothing to remove"]
    listed = [{"folder": each.folder.as_posix(), "bytes": each.size} for each in found]
    _tell(as_json, {"removed": yes, "folders": listed}, "\n".join(lines))


@app.command(epilog=_examples("rkd keep cpu", 'rkd keep cpu --command "snakemake --cores 4 --configfile my.yaml"'))
def keep(
    experiment: Annotated[str, typer.Argument(help="Name of the experiment, that of its folder in results.")],
    command: Annotated[str, typer.Option(help="The command that made it, for the README.")] = "",
    as_json: Json = False,
) -> None:
    """Copy the small files of an experiment to results/published/NAME, with a README to fill in."""
    from rkd.workflow.store import keep as copy

    folder = copy(experiment, Path("results"), command)
    _tell(as_json, {"folder": str(folder)}, f"{folder}: write the findings into README.md")


def main(arguments: list[str] | None = None) -> None:
    """Run the command; every error is one line on stderr and exit code 2."""
    run_script(lambda: _run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: list[str]) -> None:
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments, prog_name="rkd", standalone_mode=False)
    except ArgumentError as error:
        raise RkdError("; ".join(_as_given(command, arguments, problem) for problem in error.problems)) from None
    except Exception as error:
        # Click's own errors format themselves; typer has no public name for their class.
        if not hasattr(error, "format_message"):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            raise SystemExit(2) from None
        raise RkdError(error.format_message()) from None
    if code == 130:  # what typer makes of Ctrl-C
        raise KeyboardInterrupt
    raise SystemExit(code if isinstance(code, int) else 0)


# Python arguments that have another name on the command line.
_NAMES = {
    "metrics": "metric",
    "options": "option",
    "settings": "setting",
    "finetune_teacher": "teacher_setting",
    "reference": "model",
    "file": "data",
}


def _as_given(command: Any, arguments: list[str], problem: Wrong) -> str:
    """Return the problem under the name that the user gave: an option, or an argument in capitals."""
    parameters = command.commands[next(each for each in arguments if each in command.commands)].params
    by_name = {
        each.name: each.opts[0] if each.opts[0].startswith("-") else (each.metavar or each.name.upper()).rstrip("…")
        for each in parameters
    }

    def called(argument: str) -> str:
        name, slash, part = argument.partition("/")  # out/teacher is a folder in out
        return by_name.get(_NAMES.get(name, name), name) + slash + part

    if called(problem.argument) == problem.argument:
        return str(problem)
    return f"{called(problem.argument)}{' ' * bool(problem.key)}{problem.key}: {problem.text(called)}"


@contextlib.contextmanager
def _by_options(teacher_settings: Collection[str]) -> Iterator[None]:
    """Translate names in errors to those of the command line.

    Code that reads data and models knows only the keys of the config.
    """
    from rkd.distillation.request import OPTIONS, TRAINING

    def renamed(found: re.Match[str]) -> str:
        of_teacher = found["teacher"] and found["key"] in teacher_settings
        settings = "--teacher-setting" if of_teacher else "--setting"
        return f"{found['before']}{'--option' if found['key'] in OPTIONS else settings} {found['key']}: "

    try:
        yield
    except RkdError as error:
        keys = "|".join([*TRAINING, *OPTIONS])
        text = re.sub(rf"(?P<before>(?:^|: |; )(?P<teacher>teacher: )?)(?P<key>{keys}): ", renamed, str(error))
        if text == str(error):
            raise
        raise RkdError(text) from error


@contextlib.contextmanager
def _importing() -> Iterator[None]:
    """Import heavy libraries with garbage collection paused, once the arguments are valid."""
    with gc_paused():
        _logging()
        yield


def _logging() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("rkd").setLevel(logging.INFO)
    if sys.stderr is None or not sys.stderr.isatty():
        import datasets
        from transformers.utils import logging as transformers_logging

        datasets.disable_progress_bars()
        transformers_logging.disable_progress_bar()


def _tell(as_json: bool, found: Any, text: str) -> None:
    print(json.dumps(jsonable(found), ensure_ascii=False) if as_json else text)


def _by_class(found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the scores and of the confusion matrix of every class, if there are not too many."""
    from rkd.metrics.facts import MOST_CLASSES

    classes = found.get("classes", [])
    if len(classes) > MOST_CLASSES:
        yield f"{len(classes)} classes: --json has the scores of each"
    if not 0 < len(classes) <= MOST_CLASSES:
        return
    width = max(len("label"), *(len(one["label"]) for one in classes))
    names = ("precision", "recall", "f1")
    yield f"{'label':<{width}}  {'rows':>6}  {'  '.join(f'{name:>9}' for name in (*names[:2], 'F1'))}"
    for one in classes:
        shown = (f"{one[name]:>9.4f}" if one[name] == one[name] else f"{'–':>9}" for name in names)  # NaN: undefined
        yield f"{one['label']:<{width}}  {one['support']:>6}  {'  '.join(shown)}"
    if "confusion" not in found:  # a text may have several labels
        return
    yield "confusion (a line per label, a column per prediction, in this order):"
    digits = max(len(str(count)) for line in found["confusion"] for count in line)
    for one, line in zip(classes, found["confusion"], strict=True):
        yield f"{one['label']:<{width}}  {' '.join(f'{count:>{digits}}' for count in line)}"


def _numbers(what: str, found: dict[str, Any]) -> str:
    values = ", ".join(f"{name} {value:.4f}" for name, value in found.items() if name != "rows")
    return f"{what}: {values} ({found['rows']} rows)"
