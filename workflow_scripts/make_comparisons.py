"""Compare every row with kd and finetune, paired by seed and dev example (CSV, Markdown, LaTeX and a sidecar JSON)."""

import argparse

from rkd.report.collect import ReportSpec
from rkd.report.comparisons import BASELINES, comparisons
from rkd.report.statistics import RESAMPLES
from rkd.report.tables import write
from rkd.runtime import reuse_memory, run_script


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="@FILE reads arguments from FILE, one per line.",
        fromfile_prefix_chars="@",
    )
    parser.add_argument("--spec", required=True, help="JSON: tasks, variants, seeds, models, selection, synthetic")
    parser.add_argument("--out-dir", required=True, help="folder for comparisons.csv, .md, .tex and .json")
    parser.add_argument("--predictions", required=True, nargs="*", help="students' predictions.parquet files")
    parser.add_argument("--baselines", default=BASELINES, nargs="+", help="rows to compare with")
    parser.add_argument("--resamples", default=RESAMPLES, type=int, help="bootstrap samples of the dev examples")
    args = parser.parse_args()
    reuse_memory()
    spec = ReportSpec.from_json(args.spec)
    write(comparisons(spec, args.predictions, args.baselines, args.resamples), args.out_dir, "comparisons")


if __name__ == "__main__":
    run_script(main)
