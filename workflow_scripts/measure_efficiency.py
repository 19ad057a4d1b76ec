"""Measure size and speed of the teacher and of students on one prepared task; writes JSON."""

import argparse
from pathlib import Path

from rkd.runtime import quick_imports, run_script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the prepared task")
    parser.add_argument(
        "--models", required=True, nargs="+", metavar="ROW=FOLDER", help="trained models; student, teacher"
    )
    parser.add_argument("--out", required=True, help="JSON file to write")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--repeats", type=int, default=50, help="timed batches of each size")
    arguments = parser.parse_args()

    with quick_imports():  # torch and transformers take seconds: only once the arguments are right
        from rkd.measuring import measured_task

    models = dict(pair.split("=", 1) for pair in arguments.models if "=" in pair)
    if len(models) < len(arguments.models):
        parser.error("--models: expected ROW=FOLDER, each row once")
    measured_task(arguments.data, models, arguments.out, arguments.device, arguments.threads, arguments.repeats)


if __name__ == "__main__":
    run_script(main)
