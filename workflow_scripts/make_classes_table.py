"""Write the table of classes: precision, recall and F1 of every class (CSV, Markdown, LaTeX, HTML, JSON)."""

from rkd.report.arguments import parser
from rkd.report.provenance import origin
from rkd.report.tables.base import write
from rkd.report.tables.classes import classes
from rkd.utils.script import run_script


def main() -> None:
    args = parser(__doc__, "--spec", "--predictions", "--out-dir").parse_args()
    write(classes(args.spec, args.predictions), args.out_dir, "classes", origin(__file__, args.predictions))


if __name__ == "__main__":
    run_script(main)
