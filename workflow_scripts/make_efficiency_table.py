"""Table of size and speed, teacher against student (CSV, Markdown, LaTeX and a sidecar JSON)."""

import argparse

from rkd.report.costs import MODEL_NUMBERS, EfficiencyTable, read_measurements
from rkd.report.tables import write
from rkd.runtime import run_script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out-dir", required=True, help="folder for efficiency.csv, .md, .tex and .json")
    parser.add_argument("--measurements", required=True, nargs="+", help="JSON files of measure_efficiency.py")
    args = parser.parse_args()
    write(EfficiencyTable(tuple(read_measurements(args.measurements, MODEL_NUMBERS))), args.out_dir, "efficiency")


if __name__ == "__main__":
    run_script(main)
