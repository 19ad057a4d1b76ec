"""Train one teacher or student: writes model/, predictions and logits, history.jsonl and run.json."""

import logging
from importlib import import_module
from pathlib import Path

from rkd.specs.arguments import add_spec
from rkd.specs.identity import check_folder
from rkd.specs.jobs import RunSpec
from rkd.training.out_of_memory import explain_out_of_memory
from rkd.utils.command_line import ArgumentParser, at_least
from rkd.utils.script import run_script
from rkd.utils.torch_setup import gc_paused
from rkd.workflow.code_digest import code_digests


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    add_spec(parser, RunSpec)
    parser.add_argument("--trials", type=Path, help="of a teacher: specs of its students, a line each, tried before it")
    parser.add_argument("--data", type=Path, required=True, help="folder of the prepared task")
    teacher_help = "folder of the fine-tuned teacher's model; several are an ensemble"
    parser.add_argument("--teacher", type=Path, nargs="+", default=[], help=teacher_help)
    entropy_help = "folder of the teacher whose soft labels have the entropy that this one's get"
    parser.add_argument("--entropy-of", type=Path, help=entropy_help)
    parser.add_argument("--keep-teacher", action="store_true", help="save the teacher that the run leaves behind, too")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--threads", type=at_least(1), default=1, help="CPU threads")
    parser.add_argument("--checkpoints", type=Path, help="folder for the run's state while it trains; none by default")
    parser.add_argument("--checkpoint-minutes", type=float, default=15, help="time between two checkpoints")
    parser.add_argument("--tracker", default="none", choices=["none", "tensorboard"])
    parser.add_argument("--tracker-folder", type=Path, help="folder of the tracker's files")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("rkd").setLevel(logging.INFO)

    with gc_paused():  # torch and transformers take seconds: only once the arguments are right
        from rkd.runs.prepared import read_unchanged
        from rkd.training.job import run

    spec = arguments.spec
    inputs = check_folder(spec, arguments.out, arguments.data, arguments.teacher, arguments.entropy_of)
    data = read_unchanged(arguments.data)["sha256"]  # what is tried is what is trained on
    if arguments.trials is not None:  # also of a teacher that goes on: its students may be others than at its start
        where = {"device": arguments.device, "threads": arguments.threads, "data_sha256": data}
        # By name: a trial decides no result, so that an edit of it trains nothing anew.
        import_module("rkd.training.trial").trial_apart(spec, arguments.trials, arguments.data, **where)
    with explain_out_of_memory(f"{spec.task}/{spec.variant}/seed-{spec.seed}", spec.training):
        run(
            spec,
            arguments.data,
            arguments.out,
            teachers=arguments.teacher,
            entropy_of=arguments.entropy_of,
            keep_teacher=arguments.keep_teacher,
            data_sha256=data,
            inputs=inputs,
            device=arguments.device,
            threads=arguments.threads,
            checkpoints=arguments.checkpoints,
            checkpoint_minutes=arguments.checkpoint_minutes,
            tensorboard=arguments.tracker_folder if arguments.tracker == "tensorboard" else None,
            code=code_digests("workflow_scripts/train.py", f"rkd.methods.{spec.method}"),
        )


if __name__ == "__main__":
    run_script(main)
