"""Write the table of behaviour: gap closed, agreement, likelihood, calibration (CSV, Markdown, LaTeX, HTML, JSON)."""

from rkd.report.arguments import parser
from rkd.report.provenance import origin
from rkd.report.tables.base import write
from rkd.report.tables.behaviour import behaviour
from rkd.utils.script import run_script
from rkd.utils.torch_setup import reuse_memory


def main() -> None:
    args = parser(__doc__, "--spec", "--predictions", "--out-dir").parse_args()
    reuse_memory()
    write(behaviour(args.spec, args.predictions), args.out_dir, "behaviour", origin(__file__, args.predictions))


if __name__ == "__main__":
    run_script(main)
