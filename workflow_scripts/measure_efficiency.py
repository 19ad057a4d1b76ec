"""Measure size and speed of the teacher and of students on one prepared task; writes JSON."""

from pathlib import Path

from rkd.utils.command_line import ArgumentParser, at_least, named
from rkd.utils.script import run_script
from rkd.utils.torch_setup import gc_paused


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the prepared task")
    parser.add_argument(
        "--models", required=True, nargs="+", metavar="ROW=FOLDER", help="trained models; student, teacher"
    )
    parser.add_argument("--out", required=True, help="JSON file to write")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--threads", type=at_least(1), default=1, help="CPU threads")
    parser.add_argument("--repeats", type=at_least(1), default=50, help="timed batches of each size")
    arguments = parser.parse_args()

    models = named("--models", arguments.models, "ROW=FOLDER")

    with gc_paused():  # torch and transformers take seconds: only once the arguments are right
        from rkd.profiling.jobs import measured_task

    measured_task(arguments.data, models, arguments.out, arguments.device, arguments.threads, arguments.repeats)


if __name__ == "__main__":
    run_script(main)
