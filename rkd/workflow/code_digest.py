"""The digest of the code that a job runs, from the import statements of its files."""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from rkd.utils.project import ROOT

_LOG_METHODS = ("debug", "info", "warning", "error", "exception", "critical", "log")


def code_inputs(script: str, *modules: str) -> list[str]:
    """Return the project files that a job runs: its script, `modules`, and all that they import from rkd.

    The list is read from the import statements themselves, so it can be neither too long nor forgotten. A package
    without modules, such as `rkd.report.templates`, is imported for its other files: they belong to the list.

    Args:
        script: path of the job's script, relative to the project's root, for example workflow_scripts/train.py.
        modules: modules that the script imports by a computed name, for example "rkd.methods.reptile", and other files
            that it reads, such as "rkd/report/figures/rkd.mplstyle".

    Returns:
        Sorted paths relative to the project's root.
    """
    found: set[Path] = set()
    todo = [ROOT / script, *(path for module in modules for path in _module_files(module))]
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo.extend(_imports(path))
    return sorted(str(path.relative_to(ROOT)) for path in found)


@cache
def code_digest(script: str, *modules: str) -> str:
    """One digest of all files of `code_inputs`: a parameter of every rule, by which Snakemake sees changed code.

    Files as inputs would do nearly the same, but a comment in one of them would retrain all students, and thousands
    of jobs would each check some twenty files.

    Example:
        >>> code_digest("workflow_scripts/compute_metrics.py")
        '1f0e9c6b52a4'
    """
    digests = code_digests(script, *modules)
    return hashlib.sha256(repr(sorted(digests.items())).encode()).hexdigest()[:12]


def code_digests(script: str, *modules: str) -> dict[str, str]:
    """Return the digest of each file of `code_inputs`; run.json records them to tell which file has changed.

    Example:
        >>> code_digests("workflow_scripts/compute_metrics.py")["rkd/__init__.py"]
        'eb254ec5e8f4'
    """
    return {file: _digest(ROOT / file) for file in code_inputs(script, *modules)}


@cache
def _digest(path: Path) -> str:
    """Twelve hexadecimal digits of what a file does.

    Python's layout, comments, docstrings and the text of messages (errors, warnings and log lines) are left out.
    """
    content = repr(_structure(_tree(path))).encode() if path.suffix == ".py" else path.read_bytes()
    return hashlib.sha256(content).hexdigest()[:12]


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _structure(node: Any, in_message: bool = False) -> Any:
    """Convert a syntax tree to nested tuples, without the text of messages.

    `ast.dump` would nearly do, but what it writes differs between Python versions.
    """
    if isinstance(node, list):
        return tuple(_structure(item, in_message) for item in node)
    if not isinstance(node, ast.AST):
        return node
    in_message = in_message or _makes_message(node)
    if in_message and (isinstance(node, ast.JoinedStr) or _is_text(node)):
        return "text"
    fields = dict(ast.iter_fields(node))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = node.body[1:]
    # Fields that a later Python adds are empty in code that an earlier one reads.
    return (
        type(node).__name__,
        *((key, _structure(value, in_message)) for key, value in fields.items() if value not in (None, [])),
    )


def _makes_message(node: ast.AST) -> bool:
    """Return whether all text in a node is a message: raised, logged, or given to an exception's constructor.

    Loggers are called `log` or `logger`, and exceptions end in Error, Exception or Warning, throughout the project.
    """
    if isinstance(node, ast.Raise):
        return True
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
        logs = node.func.value.id in ("log", "logger") and node.func.attr in _LOG_METHODS
        if logs or (node.func.value.id, node.func.attr) == ("warnings", "warn"):
            return True
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    return name.endswith(("Error", "Exception", "Warning"))


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


@cache
def _imports(path: Path) -> tuple[Path, ...]:
    """Files of the rkd modules that the file `path` imports, wherever in it the statement stands."""
    result: list[Path] = []
    for statement in _statements(_tree(path).body) if path.suffix == ".py" else ():
        if isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            module = _absolute(statement, path)
            names = [module, *(f"{module}.{alias.name}" for alias in statement.names)]
        else:
            continue
        result.extend(file for name in names for file in _module_files(name))
    return tuple(result)


def _absolute(statement: ast.ImportFrom, path: Path) -> str:
    """Return the absolute name of the module in `from MODULE import …` in the file `path`."""
    if not statement.level:
        return statement.module or ""
    package = path.resolve().relative_to(ROOT.resolve()).parts[: -statement.level]
    return ".".join([*package, *([statement.module] if statement.module else [])])


def _statements(block: list[Any]) -> Iterator[ast.AST]:
    """Yield the statements of a block and of all nested blocks, except those that only type checkers see."""
    for statement in block:
        yield statement
        hidden = isinstance(statement, ast.If) and isinstance(statement.test, ast.Name)
        hidden = hidden and statement.test.id == "TYPE_CHECKING"
        for name in ("body", "handlers", "cases", "orelse", "finalbody"):
            if not (hidden and name == "body"):
                yield from _statements(getattr(statement, name, []))


def _module_files(module: str) -> list[Path]:
    """Return the files of an rkd module with its packages, or of a path; empty for other names."""
    if "/" in module:
        return [ROOT / module]
    parts = module.split(".")
    if parts[0] != "rkd":
        return []
    place = ROOT.joinpath(*parts)
    files = [ROOT.joinpath(*parts[:i], "__init__.py") for i in range(1, len(parts) + 1)]
    files.append(place.with_suffix(".py"))
    if [file.name for file in place.glob("*.py")] == ["__init__.py"]:
        files += [file for file in place.iterdir() if not file.name.startswith((".", "_"))]
    return [file for file in files if file.is_file()]
