"""Tokenises one task: `python workflow_scripts/prepare_data.py --spec JSON --out results/data/cola`."""

import argparse
import json
import logging
import sys

import datasets

from rkd.data.prepare import prepare
from rkd.errors import RkdError


def main() -> int:
    """Exit code 0, or 2 with one line `error: …` for bad input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, help="JSON object with the arguments of rkd.data.prepare.prepare")
    parser.add_argument("--out", required=True, help="folder to write")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    spec = json.loads(arguments.spec)
    try:
        manifest = prepare(spec.pop("task"), arguments.out, **spec)
    except RkdError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows = ", ".join(f"{name} {split['rows']}" for name, split in manifest["splits"].items())
    print(f"{arguments.out}: {rows} rows, sha256 {manifest['sha256'][:12]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
