"""Write the main dev table (CSV, Markdown, LaTeX and a sidecar JSON of sources) from metrics files."""

import argparse

from rkd.report.collect import ReportSpec, read_metrics
from rkd.report.tables import main_table, write
from rkd.runtime import run_script


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="@FILE reads arguments from FILE, one per line.",
        fromfile_prefix_chars="@",
    )
    parser.add_argument("--spec", required=True, help="JSON: tasks, variants, seeds, models, selection, synthetic")
    parser.add_argument("--out-dir", required=True, help="folder for main.csv, main.md, main.tex and main.json")
    parser.add_argument("--metrics", required=True, nargs="*", help="metrics files; runs without one are shown as –")
    args = parser.parse_args()
    write(main_table(ReportSpec.from_json(args.spec), read_metrics(args.metrics)), args.out_dir)


if __name__ == "__main__":
    run_script(main)
