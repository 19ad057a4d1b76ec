"""Draw dev score against seconds of training, a panel per task, as PDF and PNG."""

from rkd.report.arguments import parser
from rkd.report.figures.style import STYLE_FILE, save
from rkd.report.figures.tradeoffs import cost_figure, read_seconds
from rkd.report.inputs import read_metrics
from rkd.report.provenance import origin
from rkd.utils.script import run_script


def main() -> None:
    args = parser(__doc__, "--spec", "--metrics", "--runs", "--out").parse_args()
    save(
        cost_figure(args.spec, read_metrics(args.metrics), read_seconds(args.runs)),
        args.out,
        origin(__file__, [*args.metrics, *args.runs], [STYLE_FILE]),
    )


if __name__ == "__main__":
    run_script(main)
