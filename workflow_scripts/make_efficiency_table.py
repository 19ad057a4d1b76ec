"""Table of size and speed, teacher against student (CSV, Markdown, LaTeX, HTML and a sidecar JSON)."""

from rkd.report.arguments import parser
from rkd.report.provenance import origin
from rkd.report.tables.base import write
from rkd.report.tables.profiling import MODEL_NUMBERS, EfficiencyTable, read_measurements
from rkd.utils.script import run_script


def main() -> None:
    options = parser(__doc__, "--out-dir")
    options.add_argument("--measurements", required=True, nargs="+", help="JSON files of measure_efficiency.py")
    args = options.parse_args()
    table = EfficiencyTable(tuple(read_measurements(args.measurements, MODEL_NUMBERS)))
    write(table, args.out_dir, "efficiency", origin(__file__, args.measurements))


if __name__ == "__main__":
    run_script(main)
