"""`python -m rkd verify results`: do results match what they say of themselves?"""

import argparse

from rkd import verify
from rkd.runtime import run_script


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m rkd", description="Tools around the workflow.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    told = "recompute hashes, metrics and tables of results and say what does not match (exit code 1)"
    verify.add_arguments(commands.add_parser("verify", help=told, description=told))
    raise SystemExit(verify.command(parser.parse_args()))


if __name__ == "__main__":
    run_script(main)
