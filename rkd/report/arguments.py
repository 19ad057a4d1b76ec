"""Command-line arguments shared by the scripts that make tables and figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rkd.specs.arguments import add_spec
from rkd.specs.report import ReportSpec
from rkd.utils.command_line import ArgumentParser

_SHARED: dict[str, dict[str, Any]] = {
    "--out": {"help": "path of the figure without suffix; .pdf and .png are written"},
    "--out-dir": {"help": "folder of the table's files: .csv, .md, .tex, .html and .json"},
    "--metrics": {"nargs": "*", "help": "metrics files; runs without one are missing"},
    "--histories": {"nargs": "*", "help": "students' history.jsonl files; runs without one are missing"},
    "--predictions": {"nargs": "*", "help": "students' predictions.parquet files; runs without one are missing"},
    "--runs": {"nargs": "*", "help": "run.json files; runs without one are missing"},
}


def parser(description: str | None, *names: str) -> ArgumentParser:
    """Return a parser with some of the shared arguments, all of them required.

    `@FILE` on the command line reads arguments from FILE, one per line.

    Args:
        description: the script's docstring.
        names: names of shared arguments. Scripts add their own arguments to the returned parser.

    >>> parser("A table.", "--out-dir", "--metrics").parse_args(["--out-dir", "tables", "--metrics", "a.json"])
    Namespace(out_dir='tables', metrics=['a.json'])
    """
    result = ArgumentParser(
        description=description,
        epilog="@FILE reads arguments from FILE, one per line.",
        fromfile_prefix_chars="@",
    )
    for name in names:
        if name == "--spec":
            add_spec(result, ReportSpec)
        else:
            result.add_argument(name, required=True, **_SHARED[name])
    return result


def add_clusters(options: ArgumentParser) -> None:
    """Add the option --clusters, which takes files of `rkd.runs.clusters`, each named after its task."""
    told = "TASK.parquet files with groups of related dev examples, which are resampled together"
    options.add_argument("--clusters", default=[], nargs="*", help=told)


def clusters_by_task(files: Sequence[str]) -> dict[str, str]:
    """Return the files by task.

    >>> clusters_by_task(["results/demo/clusters/mnli.parquet"])
    {'mnli': 'results/demo/clusters/mnli.parquet'}
    """
    return {Path(file).stem: file for file in files}
