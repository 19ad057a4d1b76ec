"""Group related examples of a task: a Parquet file with a cluster id per example."""

import logging

import pandas as pd

from rkd.report.statistics.clusters import cluster_ids
from rkd.specs.arguments import add_spec
from rkd.specs.clusters import ClusterSpec
from rkd.utils.command_line import ArgumentParser, named
from rkd.utils.files import atomic_path
from rkd.utils.script import run_script
from rkd.utils.torch_setup import gc_paused


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    add_spec(parser, ClusterSpec)
    parser.add_argument(
        "--files", default=[], nargs="*", metavar="SPLIT=PATH", help="where the files of a custom task lie"
    )
    parser.add_argument("--out", required=True, help="Parquet file to write")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    with gc_paused():
        from rkd.data.clusters import read_grouping

    grouped = read_grouping(arguments.spec, named("--files", arguments.files, "SPLIT=PATH"))
    frames = [
        pd.DataFrame({"split": split, "idx": found.idx, "cluster": cluster_ids(found.fields)})
        for split, found in grouped.items()
    ]
    with atomic_path(arguments.out) as temporary:
        pd.concat(frames, ignore_index=True).to_parquet(temporary, index=False)
    for split, frame in zip(grouped, frames, strict=True):
        print(f"{split}: {len(frame)} examples in {frame['cluster'].nunique()} groups")


if __name__ == "__main__":
    run_script(main)
