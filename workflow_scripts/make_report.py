"""Write the HTML report of a run: one page with tables, figures and what they show."""

import argparse
import json
from pathlib import Path

from rkd.plan import Plan
from rkd.report.page import page
from rkd.runtime import atomic_write_text, run_script


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--config", required=True, type=json.loads, help="the checked config, JSON")
    options.add_argument("--results", required=True, type=Path, help="folder of tables, figures, runs and logs")
    options.add_argument("--citation", required=True, type=Path, help="CITATION.cff")
    options.add_argument("--tables", required=True, nargs="+", help="names of tables; those not made are left out")
    options.add_argument("--figures", required=True, nargs="*", help="names of figures, likewise")
    options.add_argument("--out", required=True, help="HTML file to write")
    args = options.parse_args()
    html = page(Plan(args.config), args.results, args.citation, args.tables, args.figures)
    atomic_write_text(args.out, html)


if __name__ == "__main__":
    run_script(main)
