"""Draw dev score against seconds of training, a panel per task, as PDF and PNG."""

import argparse

from rkd.report.collect import ReportSpec, read_metrics
from rkd.report.figures import save
from rkd.report.tradeoffs import cost_figure, read_seconds
from rkd.runtime import run_script


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="@FILE reads arguments from FILE, one per line.",
        fromfile_prefix_chars="@",
    )
    parser.add_argument("--spec", required=True, help="JSON: tasks, variants, seeds, models, selection, synthetic")
    parser.add_argument("--out", required=True, help="path of the figure without suffix; .pdf and .png are written")
    parser.add_argument("--metrics", required=True, nargs="*", help="students' metrics files")
    parser.add_argument("--runs", required=True, nargs="*", help="students' run.json files")
    args = parser.parse_args()
    spec = ReportSpec.from_json(args.spec)
    save(cost_figure(spec, read_metrics(args.metrics), read_seconds(args.runs)), args.out)


if __name__ == "__main__":
    run_script(main)
