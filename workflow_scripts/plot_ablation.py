"""Draw one axis of ablation: dev score by value with intervals, a panel per task, as PDF and PNG."""

import argparse

from rkd.report.ablation_figure import REFERENCES, ablation_figure
from rkd.report.ablations import ablation_table, read_axis
from rkd.report.collect import ReportSpec, read_metrics
from rkd.report.figures import save
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
    parser.add_argument("--out", required=True, help="path of the figure without suffix; .pdf and .png are written")
    parser.add_argument("--metrics", required=True, nargs="*", help="metrics files of the axis and the references")
    parser.add_argument("--references", default=REFERENCES, nargs="*", help="variants drawn as level lines")
    args = parser.parse_args()
    spec = ReportSpec.from_json(args.spec)
    table = ablation_table(spec, read_axis(args.ablations, spec, args.axis), read_metrics(args.metrics))
    save(ablation_figure(table, args.references), args.out)


if __name__ == "__main__":
    run_script(main)
