"""Draw one axis of ablation: dev score by value with intervals, a panel per task, as PDF and PNG."""

from rkd.report.arguments import parser
from rkd.report.figures.ablation import REFERENCES, ablation_figure
from rkd.report.figures.style import STYLE_FILE, save
from rkd.report.inputs import read_metrics
from rkd.report.provenance import origin
from rkd.report.tables.ablation import ablation_table
from rkd.utils.script import run_script


def main() -> None:
    options = parser(__doc__, "--spec", "--metrics", "--out")
    options.add_argument("--references", default=REFERENCES, nargs="*", help="variants drawn as level lines")
    args = options.parse_args()
    table = ablation_table(args.spec, read_metrics(args.metrics))
    save(ablation_figure(table, args.references), args.out, origin(__file__, args.metrics, [STYLE_FILE]))


if __name__ == "__main__":
    run_script(main)
