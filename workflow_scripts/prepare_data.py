"""Read, check and tokenise one task: writes dataset/, tokenizer/ and manifest.json."""

import logging
import sys

from rkd.specs.arguments import add_spec
from rkd.specs.data import DataSpec
from rkd.utils.command_line import ArgumentParser, named
from rkd.utils.script import run_script
from rkd.utils.torch_setup import gc_paused


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    add_spec(parser, DataSpec)
    parser.add_argument(
        "--files", default=[], nargs="*", metavar="SPLIT=PATH", help="where the files of a custom task lie"
    )
    parser.add_argument("--out", required=True, help="folder of the prepared task")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")

    fields = arguments.spec.as_dict()
    for split, path in named("--files", arguments.files, "SPLIT=PATH").items():
        if split == "unlabelled":
            fields["unlabelled"]["path"] = path
        elif split == "soft_labels":
            fields["custom_task"]["soft_labels"]["file"]["path"] = path
        else:
            fields["custom_task"]["files"][split]["path"] = path

    with gc_paused():  # of datasets and tokenizers, seconds: only once the arguments are right
        import datasets

        from rkd.data.prepare import prepare

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    manifest = prepare(fields.pop("task"), arguments.out, **fields)
    rows = ", ".join(f"{name} {split['rows']}" for name, split in manifest["splits"].items())
    print(f"{arguments.out}: {rows} rows, sha256 {manifest['sha256'][:12]}")


if __name__ == "__main__":
    run_script(main)
