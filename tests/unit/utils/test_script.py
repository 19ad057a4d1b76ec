"""One-line errors of scripts."""

import pytest

from rkd.errors import RkdError
from rkd.utils.script import run_script


def test_bad_input_ends_a_script_with_one_line(capsys):
    def main():
        raise RkdError("config.yaml: found 3; expected 4")

    with pytest.raises(SystemExit) as ended:
        run_script(main)
    assert ended.value.code == 2
    assert capsys.readouterr() == ("", "error: config.yaml: found 3; expected 4\n")


def test_a_bug_keeps_its_traceback_and_success_says_nothing(capsys):
    with pytest.raises(ZeroDivisionError):
        run_script(lambda: 1 / 0)
    run_script(lambda: None)
    assert capsys.readouterr() == ("", "")
