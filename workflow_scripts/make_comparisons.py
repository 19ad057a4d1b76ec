"""Compare every row with kd and finetune, paired by seed and dev example (CSV, Markdown, LaTeX, HTML, sidecar JSON)."""

from rkd.report.arguments import add_clusters, clusters_by_task, parser
from rkd.report.provenance import origin
from rkd.report.statistics.comparison import RESAMPLES
from rkd.report.statistics.verdicts import MARGIN
from rkd.report.tables.base import write
from rkd.report.tables.comparisons import BASELINES, comparisons
from rkd.utils.command_line import above, at_least
from rkd.utils.script import run_script
from rkd.utils.torch_setup import reuse_memory


def main() -> None:
    options = parser(__doc__, "--spec", "--predictions", "--out-dir")
    options.add_argument("--baselines", default=BASELINES, nargs="+", help="rows to compare with")
    options.add_argument(
        "--resamples", default=RESAMPLES, type=at_least(1), help="bootstrap samples of the dev examples"
    )
    options.add_argument("--margin", default=100 * MARGIN, type=above(0), help="equivalence margin in points")
    add_clusters(options)
    args = options.parse_args()
    reuse_memory()
    settings = {"resamples": args.resamples, "margin": args.margin / 100, "clusters": clusters_by_task(args.clusters)}
    table = comparisons(args.spec, args.predictions, args.baselines, **settings)
    write(table, args.out_dir, "comparisons", origin(__file__, [*args.predictions, *args.clusters]))


if __name__ == "__main__":
    run_script(main)
