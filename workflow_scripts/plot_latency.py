"""Draw dev score against latency at batch size 1, a panel per task, as PDF and PNG."""

from rkd.report.arguments import parser
from rkd.report.figures.style import STYLE_FILE, save
from rkd.report.figures.tradeoffs import latency_figure, read_efficiency
from rkd.report.inputs import read_metrics
from rkd.report.provenance import origin
from rkd.utils.script import run_script


def main() -> None:
    options = parser(__doc__, "--spec", "--metrics", "--out")
    options.add_argument("--efficiency", required=True, help="efficiency.csv")
    args = options.parse_args()
    save(
        latency_figure(args.spec, read_metrics(args.metrics), read_efficiency(args.efficiency)),
        args.out,
        origin(__file__, [*args.metrics, args.efficiency], [STYLE_FILE]),
    )


if __name__ == "__main__":
    run_script(main)
