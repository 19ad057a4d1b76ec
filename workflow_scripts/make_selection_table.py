"""Dev scores of the best and of the last epoch side by side (CSV, Markdown, LaTeX and a sidecar JSON)."""

import argparse

from rkd.report.collect import ReportSpec, read_histories
from rkd.report.selection import selection
from rkd.report.tables import write
from rkd.runtime import run_script


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="@FILE reads arguments from FILE, one per line.",
        fromfile_prefix_chars="@",
    )
    parser.add_argument("--spec", required=True, help="JSON: tasks, variants, seeds, models, selection, synthetic")
    parser.add_argument("--out-dir", required=True, help="folder for selection.csv, .md, .tex and .json")
    parser.add_argument("--histories", required=True, nargs="*", help="students' history.jsonl files")
    args = parser.parse_args()
    write(selection(ReportSpec.from_json(args.spec), read_histories(args.histories)), args.out_dir, "selection")


if __name__ == "__main__":
    run_script(main)
