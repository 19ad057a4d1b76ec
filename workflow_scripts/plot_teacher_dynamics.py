"""Draw what becomes of moving teachers by training step, one column per task, as PDF and PNG."""

import argparse

from rkd.report.collect import ReportSpec, read_histories
from rkd.report.dynamics import teacher_dynamics
from rkd.report.figures import save
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
    args = parser.parse_args()
    spec = ReportSpec.from_json(args.spec)
    save(teacher_dynamics(spec, read_histories(args.histories)), args.out)


if __name__ == "__main__":
    run_script(main)
