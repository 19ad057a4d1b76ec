"""Draw dev score against latency at batch size 1, a panel per task, as PDF and PNG."""

import argparse

import pandas as pd

from rkd.report.collect import ReportSpec, read_metrics
from rkd.report.figures import save
from rkd.report.tradeoffs import latency_figure
from rkd.runtime import run_script


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="@FILE reads arguments from FILE, one per line.",
        fromfile_prefix_chars="@",
    )
    parser.add_argument("--spec", required=True, help="JSON: tasks, variants, seeds, models, selection, synthetic")
    parser.add_argument("--out", required=True, help="path of the figure without suffix; .pdf and .png are written")
    parser.add_argument("--metrics", required=True, nargs="*", help="metrics files of teachers and students")
    parser.add_argument("--efficiency", required=True, help="efficiency.csv")
    args = parser.parse_args()
    spec = ReportSpec.from_json(args.spec)
    save(latency_figure(spec, read_metrics(args.metrics), pd.read_csv(args.efficiency)), args.out)


if __name__ == "__main__":
    run_script(main)
