"""Table of one axis of ablation: value by task (CSV, Markdown, LaTeX, HTML and a sidecar JSON)."""

from rkd.report.arguments import parser
from rkd.report.inputs import ReportSpec, read_metrics
from rkd.report.provenance import origin
from rkd.report.tables.ablation import ablation_table, read_axis
from rkd.report.tables.base import write
from rkd.utils.script import run_script


def main() -> None:
    args = parser(__doc__, "--spec", "--ablations", "--axis", "--metrics", "--out-dir").parse_args()
    spec = ReportSpec.from_json(args.spec)
    table = ablation_table(spec, read_axis(args.ablations, spec, args.axis), read_metrics(args.metrics))
    write(table, args.out_dir, f"ablation_{args.axis}", origin(__file__, args.metrics))


if __name__ == "__main__":
    run_script(main)
