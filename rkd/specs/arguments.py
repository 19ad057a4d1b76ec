"""The option of the workflow's scripts that takes a spec."""

import argparse

from rkd.errors import RkdError
from rkd.specs.base import Spec
from rkd.utils.script import text_argument


def add_spec(parser: argparse.ArgumentParser, kind: type[Spec]) -> None:
    """Add the required option --spec, which takes a spec's JSON, or "-" for JSON on standard input.

    Args:
        parser: the parser of a script.
        kind: the class of the spec, which the parsed argument is an object of.

    >>> add_spec(parser, MetricsSpec)
    """

    def parse(text: str) -> Spec:
        try:
            return kind.from_json(text_argument(text))
        except RkdError as error:  # of which, as a ValueError, argparse would tell nothing
            raise argparse.ArgumentTypeError(str(error)) from None

    described = f"JSON of a {kind.__module__}.{kind.__qualname__}; -: from stdin"
    parser.add_argument("--spec", required=True, type=parse, help=described)
