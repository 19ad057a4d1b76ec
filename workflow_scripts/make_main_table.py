"""Write the main dev table (CSV, Markdown, LaTeX, HTML and a sidecar JSON of sources) from metrics files."""

from rkd.report.arguments import parser
from rkd.report.inputs import read_metrics
from rkd.report.provenance import origin
from rkd.report.tables import literature
from rkd.report.tables.base import write
from rkd.report.tables.main import main_table
from rkd.utils.script import run_script


def main() -> None:
    args = parser(__doc__, "--spec", "--metrics", "--out-dir").parse_args()
    table = main_table(args.spec, read_metrics(args.metrics))
    write(table, args.out_dir, "main", origin(__file__, args.metrics, literature.FILES))


if __name__ == "__main__":
    run_script(main)
