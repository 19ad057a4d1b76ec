"""Table of where the training runs were made (CSV, Markdown, LaTeX, HTML and a sidecar JSON)."""

from rkd.report.arguments import parser
from rkd.report.provenance import origin
from rkd.report.tables.base import write
from rkd.report.tables.provenance import provenance
from rkd.utils.command_line import at_least
from rkd.utils.script import run_script


def main() -> None:
    options = parser(__doc__, "--runs", "--out-dir")
    options.add_argument("--planned", required=True, type=at_least(0), help="number of runs of the config")
    args = options.parse_args()
    write(provenance(args.runs, args.planned), args.out_dir, "provenance", origin(__file__, args.runs))


if __name__ == "__main__":
    run_script(main)
