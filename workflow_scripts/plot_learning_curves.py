"""Draw dev score by training step, one panel per task and one line per variant, as PDF and PNG."""

import argparse

from rkd.report.collect import ReportSpec, read_histories, read_metrics
from rkd.report.figures import learning_curves, save
from rkd.runtime import run_script


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="@FILE reads arguments from FILE, one per line.",
        fromfile_prefix_chars="@",
    )
    parser.add_argument("--spec", required=True, help="JSON: tasks, variants, seeds, models, selection, synthetic")
    parser.add_argument("--out", required=True, help="path of the figure without suffix; .pdf and .png are written")
    parser.add_argument("--histories", required=True, nargs="*", help="students' history.jsonl files")
    parser.add_argument("--teacher-metrics", default=[], nargs="*", help="teachers' metrics files")
    args = parser.parse_args()
    spec = ReportSpec.from_json(args.spec)
    save(learning_curves(spec, read_histories(args.histories), read_metrics(args.teacher_metrics)), args.out)


if __name__ == "__main__":
    run_script(main)
