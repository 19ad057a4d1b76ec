"""Draw dev score by training step, one panel per task and one line per variant, as PDF and PNG."""

from rkd.report.arguments import parser
from rkd.report.figures.learning_curves import learning_curves
from rkd.report.figures.style import STYLE_FILE, save
from rkd.report.inputs import read_histories, read_metrics
from rkd.report.provenance import origin
from rkd.utils.script import run_script


def main() -> None:
    options = parser(__doc__, "--spec", "--histories", "--out")
    options.add_argument("--teacher-metrics", default=[], nargs="*", help="teachers' metrics files")
    args = options.parse_args()
    figure = learning_curves(args.spec, read_histories(args.histories), read_metrics(args.teacher_metrics))
    save(figure, args.out, origin(__file__, [*args.histories, *args.teacher_metrics], [STYLE_FILE]))


if __name__ == "__main__":
    run_script(main)
