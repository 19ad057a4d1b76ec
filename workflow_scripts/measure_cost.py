"""Measure the cost of a training step of every method on one batch of a prepared task; writes JSON."""

from pathlib import Path

from rkd.specs.arguments import add_spec
from rkd.specs.profiling import StepCostSpec
from rkd.training.out_of_memory import explain_out_of_memory
from rkd.utils.command_line import ArgumentParser, at_least
from rkd.utils.script import run_script
from rkd.utils.torch_setup import gc_paused


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    add_spec(parser, StepCostSpec)
    parser.add_argument("--data", type=Path, required=True, help="folder of the prepared task")
    parser.add_argument("--teacher", type=Path, required=True, help="folder of a fine-tuned teacher's model")
    parser.add_argument("--out", required=True, help="JSON file to write")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--threads", type=at_least(1), default=1, help="CPU threads")
    parser.add_argument("--steps", type=at_least(1), default=5, help="timed steps in each of three rounds")
    a = parser.parse_args()

    with gc_paused():  # torch and transformers take seconds: only once the arguments are right
        from rkd.profiling.jobs import measured_methods

    size = {"batch_size": a.spec.batch_size, "gradient_accumulation": 1}
    with explain_out_of_memory(f"a step of {a.data.name}", size):
        measured_methods(a.spec, a.data, a.teacher, a.out, a.device, a.threads, steps=a.steps)


if __name__ == "__main__":
    run_script(main)
