"""Table of one axis of ablation: value by task (CSV, Markdown, LaTeX, HTML and a sidecar JSON)."""

from rkd.report.arguments import parser
from rkd.report.inputs import read_metrics
from rkd.report.provenance import origin
from rkd.report.tables.ablation import ablation_table
from rkd.report.tables.base import write
from rkd.utils.script import run_script


def main() -> None:
    args = parser(__doc__, "--spec", "--metrics", "--out-dir").parse_args()
    table = ablation_table(args.spec, read_metrics(args.metrics))
    write(table, args.out_dir, f"ablation_{args.spec.ablation.name}", origin(__file__, args.metrics))


if __name__ == "__main__":
    run_script(main)
