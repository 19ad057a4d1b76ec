"""Table of the cost of a training step of every method (CSV, Markdown, LaTeX, HTML and a sidecar JSON)."""

from rkd.report.arguments import parser
from rkd.report.provenance import origin
from rkd.report.tables.base import write
from rkd.report.tables.profiling import METHOD_NUMBERS, CostTable, read_measurements
from rkd.utils.script import run_script


def main() -> None:
    options = parser(__doc__, "--spec", "--out-dir")
    options.add_argument("--measurement", required=True, help="JSON file of measure_cost.py")
    args = options.parse_args()
    (measurement,) = read_measurements([args.measurement], METHOD_NUMBERS)
    table = CostTable(measurement, args.spec.labels())
    write(table, args.out_dir, "cost", origin(__file__, [args.measurement]))


if __name__ == "__main__":
    run_script(main)
