"""Table of one axis of ablation: value by task (CSV, Markdown, LaTeX and a sidecar JSON)."""

import argparse

from rkd.report.ablations import ablation_table, read_axis
from rkd.report.collect import ReportSpec, read_metrics
from rkd.report.tables import write
from rkd.runtime import run_script


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="@FILE reads arguments from FILE, one per line.",
        fromfile_prefix_chars="@",
    )
    parser.add_argument("--spec", required=True, help="JSON: tasks, variants, seeds, models, selection, synthetic")
    parser.add_argument("--ablations", required=True, help='JSON list of {"axis", "value", "variant"}, perhaps "tasks"')
    parser.add_argument("--axis", required=True, help="axis to show")
    parser.add_argument("--out-dir", required=True, help="folder for ablation_AXIS.csv, .md, .tex and .json")
    parser.add_argument("--metrics", required=True, nargs="*", help="metrics files; runs without one are shown as –")
    args = parser.parse_args()
    spec = ReportSpec.from_json(args.spec)
    table = ablation_table(spec, read_axis(args.ablations, spec, args.axis), read_metrics(args.metrics))
    write(table, args.out_dir, f"ablation_{args.axis}")


if __name__ == "__main__":
    run_script(main)
