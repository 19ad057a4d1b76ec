"""Write the GLUE submission of one variant (a zip of eleven TSV files) from its predictions."""

from rkd.report.arguments import parser
from rkd.submission import submit
from rkd.utils.command_line import at_least
from rkd.utils.script import run_script


def main() -> None:
    options = parser(__doc__, "--predictions")
    options.add_argument("--out", required=True, help="zip file to write")
    options.add_argument("--seed", type=at_least(0), help="seed to submit; by default each task's best on dev")
    options.add_argument("--fill-missing", action="store_true", help="constant answers for tasks that were not run")
    options.add_argument("--unchecked", action="store_true", help="keep a zip that the server would refuse")
    args = options.parse_args()
    if submit(args.predictions, args.out, args.seed, args.fill_missing) and not args.unchecked:
        raise SystemExit(1)


if __name__ == "__main__":
    run_script(main)
