"""Dev scores of the best and of the last epoch side by side (CSV, Markdown, LaTeX, HTML and a sidecar JSON)."""

from rkd.report.arguments import parser
from rkd.report.inputs import read_histories
from rkd.report.provenance import origin
from rkd.report.tables.base import write
from rkd.report.tables.selection import selection
from rkd.utils.script import run_script


def main() -> None:
    args = parser(__doc__, "--spec", "--histories", "--out-dir").parse_args()
    table = selection(args.spec, read_histories(args.histories))
    write(table, args.out_dir, "selection", origin(__file__, args.histories))


if __name__ == "__main__":
    run_script(main)
