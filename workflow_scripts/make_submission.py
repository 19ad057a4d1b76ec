"""Write the GLUE submission of one variant (a zip of eleven TSV files) from its predictions."""

import argparse
import sys

from rkd.report.submission import build, choose, validate
from rkd.runtime import run_script


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="@FILE reads arguments from FILE, one per line.",
        fromfile_prefix_chars="@",
    )
    parser.add_argument("--predictions", required=True, nargs="+", help="predictions.parquet files of the variant")
    parser.add_argument("--out", required=True, help="zip file to write")
    parser.add_argument("--seed", type=int, help="seed to submit; by default each task's best on dev")
    parser.add_argument("--fill-missing", action="store_true", help="constant answers for tasks that were not run")
    parser.add_argument("--unchecked", action="store_true", help="keep a zip that the server would refuse")
    args = parser.parse_args()
    chosen = choose(args.predictions, args.seed)
    for task, one in chosen.items():
        why = "asked for" if args.seed is not None else "best on dev"
        print(f"{task}: seed {one.run.seed} ({why}; dev {100 * one.headline:.2f}), {one.file}")
    for name in build(chosen, args.out, args.fill_missing):
        print(f"{name}: no run of this task; FILLED with a constant answer, its score means nothing")
    if problems := validate(args.out):
        print("\n".join(f"{args.out}: {problem}" for problem in problems), file=sys.stderr)
        raise SystemExit(0 if args.unchecked else 1)


if __name__ == "__main__":
    run_script(main)
