"""Draw the differences between rows by task with intervals, their average and the margin, as PDF and PNG."""

from rkd.report.arguments import parser
from rkd.report.figures.forest import forest, read_comparisons
from rkd.report.figures.style import STYLE_FILE, save
from rkd.report.provenance import origin
from rkd.utils.command_line import above
from rkd.utils.script import run_script


def main() -> None:
    options = parser(__doc__, "--spec", "--out")
    options.add_argument("--comparisons", required=True, help="comparisons.csv")
    options.add_argument("--margin", required=True, type=above(0), help="equivalence margin in points")
    args = options.parse_args()
    drawn = read_comparisons(args.comparisons)
    save(forest(args.spec, drawn, args.margin), args.out, origin(__file__, [args.comparisons], [STYLE_FILE]))


if __name__ == "__main__":
    run_script(main)
