"""Facts about the methods of this folder, read from the source of their classes: nothing here imports torch.

Plans, checks and the command ask here. A training asks its own class, so that a fact of one method retrains no other.
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
        name: its name in configs, that of its file.
        class_name: its class there.
        summary: first line of the file's docstring.
        defaults: defaults of the constructor's keywords, by name.

    The others are the class attributes of `rkd.methods.base.Method` of the same names, inherited as in Python.
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
            # By that name the digest of a job would not see the file that the class comes from.
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
    """Name and value of the facts that a class states."""
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
    """Name and default of the constructor's keywords that have a literal one."""
    for function in node.body:
        if isinstance(function, ast.FunctionDef) and function.name == "__init__":
            for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
                if isinstance(default, ast.Constant):
                    yield argument.arg, default.value


METHODS: Mapping[str, MethodFacts] = {facts.name: facts for facts in _read()}
