"""Write the table of tuning (CSV, Markdown, LaTeX, HTML and a sidecar JSON) and the overlay with the chosen values."""

from pathlib import Path

from rkd.report.arguments import parser
from rkd.report.provenance import origin
from rkd.report.tables.base import write
from rkd.report.tables.tuning import tuning
from rkd.specs.arguments import add_spec
from rkd.specs.tuning import TuningSpec
from rkd.utils.files import atomic_write_text
from rkd.utils.script import run_script


def main() -> None:
    options = parser(__doc__, "--histories", "--out-dir")
    add_spec(options, TuningSpec)
    options.add_argument("--target", required=True, help="target of the workflow, and name of the table")
    args = options.parse_args()
    table = tuning(args.spec, args.histories)
    write(table, args.out_dir, args.target, origin(__file__, args.histories))
    # Above the tables: tuned.yaml, or tuned_teacher.yaml.
    place = Path(args.out_dir).parent / f"{args.target.replace('tune', 'tuned', 1)}.yaml"
    atomic_write_text(place, table.overlay(args.target))


if __name__ == "__main__":
    run_script(main)
