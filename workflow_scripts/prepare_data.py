"""Read, check and tokenise one task: writes dataset/, tokenizer/ and manifest.json."""

import logging
import sys

from rkd.utils.command_line import ArgumentParser, json_value
from rkd.utils.script import run_script
from rkd.utils.torch_setup import gc_paused


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--spec",
        required=True,
        type=json_value(dict, "the arguments of rkd.data.prepare.prepare"),
        help="JSON: the arguments of rkd.data.prepare.prepare; -: from stdin",
    )
    files = json_value(dict, "the user's files by split")
    parser.add_argument("--files", type=files, default={}, help="JSON: the user's files by split, for own tasks")
    parser.add_argument("--out", required=True, help="folder of the prepared task")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")

    with gc_paused():  # of datasets and tokenizers, seconds: only once the arguments are right
        import datasets

        from rkd.data.prepare import prepare

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    for split, path in arguments.files.items():
        arguments.spec["custom_task"]["files"][split]["path"] = path
    manifest = prepare(arguments.spec.pop("task"), arguments.out, **arguments.spec)
    rows = ", ".join(f"{name} {split['rows']}" for name, split in manifest["splits"].items())
    print(f"{arguments.out}: {rows} rows, sha256 {manifest['sha256'][:12]}")


if __name__ == "__main__":
    run_script(main)
