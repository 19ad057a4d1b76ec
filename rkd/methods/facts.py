"""Facts about the methods of this folder, parsed from the source of their classes without importing torch.

Plans, checks and the command line use this module. A training run asks its own class instead, so that a changed fact
of one method does not retrain the others.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from rkd.errors import RkdError

_FOLDER = Path(__file__).parent
_PACKAGE = "rkd.methods"
# The method that fine-tunes teachers.
TEACHER_METHOD = "finetune"


@dataclass(frozen=True, kw_only=True)
class MethodFacts:
    """The options and needs of a method.

    Attributes:
        name: name of the method in configs and of its file.
        class_name: name of its class.
        summary: first line of the file's docstring.
        defaults: default values of the constructor's keyword arguments, by name.

    All others are class attributes of `rkd.methods.base.Method`, documented there and inherited as in Python.
    """

    name: str
    class_name: str
    summary: str
    defaults: Mapping[str, Any]
    options: tuple[str, ...]
    read_with: tuple[tuple[str, str, Any], ...]
    needs_teacher: bool
    positive: tuple[str, ...]
    trains_teacher: bool
    logits_only: bool
    same_width: str
    one_to_one: bool
    unmatched_layers: int
    passes: tuple[int, int, int, int] | None


def needs_teacher(method: str) -> bool:
    """Return True for a method that learns from a teacher, as every registered one does."""
    return method not in METHODS or METHODS[method].needs_teacher


_ATTRIBUTES = {field.name for field in fields(MethodFacts)} - {"name", "class_name", "summary", "defaults"}
_Class = dict[str, Any]


def _read() -> Iterator[MethodFacts]:
    for file in sorted(_FOLDER.glob("[!_]*.py")):
        for attributes in _classes(file.stem).values():
            if attributes["name"] == file.stem and attributes["class_name"] != "Method":
                yield MethodFacts(**attributes)


@cache
def _classes(module: str) -> dict[str, _Class]:
    """Return the facts of the subclasses of Method that a file defines or imports, by class name."""
    tree = ast.parse((_FOLDER / f"{module}.py").read_text(encoding="utf-8"), module)
    summary = (ast.get_docstring(tree) or module).splitlines()[0]
    known: dict[str, _Class] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{_PACKAGE}."):
            theirs = _classes(str(node.module).removeprefix(f"{_PACKAGE}."))
            known |= {each.asname or each.name: theirs[each.name] for each in node.names if each.name in theirs}
        elif (
            isinstance(node, ast.ImportFrom)
            and node.module == _PACKAGE
            and any(n.name[0].isupper() for n in node.names)
        ):
            # The code digest of a job would miss the file that defines the class.
            raise RkdError(f"{_PACKAGE}.{module}: imports a class from {_PACKAGE}; expected its file, as {_PACKAGE}.kd")
        elif isinstance(node, ast.ClassDef):
            above = [known[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in known]
            if above or node.name == "Method":
                inherited = {key: value for each in reversed(above) for key, value in each.items()}
                own = {"name": module, "class_name": node.name, "summary": summary, **dict(_assigned(node, module))}
                defaults = {**inherited.get("defaults", {}), **dict(_keyword_defaults(node))}
                known[node.name] = {**inherited, **own, "defaults": defaults}
    return known


def _assigned(node: ast.ClassDef, module: str) -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of the facts that a class declares."""
    for statement in node.body:
        targets = getattr(statement, "targets", [getattr(statement, "target", None)])
        value = getattr(statement, "value", None)
        for target in targets:
            if isinstance(target, ast.Name) and target.id in _ATTRIBUTES and value is not None:
                try:
                    yield target.id, ast.literal_eval(value)
                except ValueError:
                    where = f"{_PACKAGE}.{module}: {node.name}.{target.id}"
                    raise RkdError(f"{where}: found {ast.unparse(value)}; expected a literal") from None


def _keyword_defaults(node: ast.ClassDef) -> Iterator[tuple[str, Any]]:
    """Yield (name, default) of the constructor's keyword arguments with a literal default."""
    for function in node.body:
        if isinstance(function, ast.FunctionDef) and function.name == "__init__":
            for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
                if isinstance(default, ast.Constant):
                    yield argument.arg, default.value


METHODS: Mapping[str, MethodFacts] = {facts.name: facts for facts in _read()}
