"""Write the table of behaviour: gap closed, agreement, likelihood, calibration (CSV, Markdown, LaTeX, HTML, JSON)."""

from rkd.report.arguments import add_clusters, clusters_by_task, parser
from rkd.report.provenance import origin
from rkd.report.tables.base import write
from rkd.report.tables.behaviour import behaviour
from rkd.utils.script import run_script
from rkd.utils.torch_setup import reuse_memory


def main() -> None:
    options = parser(__doc__, "--spec", "--predictions", "--metrics", "--out-dir")
    add_clusters(options)
    args = options.parse_args()
    reuse_memory()
    table = behaviour(args.spec, args.predictions, args.metrics, clusters=clusters_by_task(args.clusters))
    write(table, args.out_dir, "behaviour", origin(__file__, [*args.predictions, *args.metrics, *args.clusters]))


if __name__ == "__main__":
    run_script(main)
