"""Commands and scripts run in this process, and how they end."""

import runpy
import sys
from types import SimpleNamespace

import pytest

from rkd import cli
from rkd.errors import RkdError
from tests.helpers import ROOT
from tests.helpers.distillation import TINY

SCRIPTS = ROOT / "workflow_scripts"


class Ends:
    """How a command or script ended."""

    def __init__(self, capsys):
        self.capsys = capsys

    def command(self, *arguments):
        return self._ended(lambda: cli.main(list(map(str, arguments))))

    def script(self, name, *arguments):
        def main():
            argv, sys.argv = sys.argv, [name, *map(str, arguments)]
            try:
                runpy.run_path(str(SCRIPTS / name), run_name="__main__")
            finally:
                sys.argv = argv

        return self._ended(main)

    def _ended(self, main):
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        told = self.capsys.readouterr()
        return SimpleNamespace(code=int(end.value.code or 0), out=told.out, err=told.err)


def check_one_error(end, *named):
    """Exit code 2 and one line of error, which names the thing."""
    assert end.code == 2, end
    errors = [line for line in end.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, end.err
    assert "Traceback" not in end.err
    for part in named:
        assert str(part) in errors[0]


def told(call, *arguments, **fields):
    """The one line of the error that a call ends in."""
    with pytest.raises(RkdError) as caught:
        call(*arguments, **fields)
    text = str(caught.value)
    assert "\n" not in text
    return text


def distill_arguments(project, **changes):
    options = {
        "--data": project / "dev.csv",
        "--teacher": TINY["teacher"],
        "--student": TINY["student"],
        "--text": "text",
        "--label": "mood",
        "--out": "new",
        **changes,
    }
    return ["distill", "--finetune-teacher", *(str(part) for pair in options.items() for part in pair)]
