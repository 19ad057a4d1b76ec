"""Draw what becomes of trainable teachers by training step, one column per task, as PDF and PNG."""

from rkd.report.arguments import parser
from rkd.report.figures.style import STYLE_FILE, save
from rkd.report.figures.teacher_dynamics import teacher_dynamics
from rkd.report.inputs import read_histories
from rkd.report.provenance import origin
from rkd.utils.script import run_script


def main() -> None:
    args = parser(__doc__, "--spec", "--histories", "--out").parse_args()
    save(
        teacher_dynamics(args.spec, read_histories(args.histories)),
        args.out,
        origin(__file__, args.histories, [STYLE_FILE]),
    )


if __name__ == "__main__":
    run_script(main)
