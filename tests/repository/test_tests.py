"""House rules of the tests themselves."""

import ast
import re
from pathlib import Path

import pytest

from tests.helpers import ROOT

FILES = sorted((ROOT / "tests").rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_no_module_imports_a_test_module(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    modules = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert not [module for module in modules if re.match(r"tests\.(.*\.)?test_", module)], "move it to tests/helpers"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_every_wait_for_a_process_has_a_limit(path: Path) -> None:
    """Other waits end by `faulthandler_timeout` in pyproject.toml, which limits each test as a whole."""
    waits = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and "timeout" not in {word.arg for word in node.keywords}:
            function = ast.unparse(node.func)
            runs = re.fullmatch(r"subprocess\.(run|call|check_call|check_output)", function)
            ends = re.search(r"\.(wait|communicate|join)$", function) and not node.args
            if runs or ends:
                waits.append(f"line {node.lineno}: {function}")
    assert waits == []
