"""Which source files a job runs, read from their import statements."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def code_inputs(script: str, *modules: str) -> list[str]:
    """The files of this project whose code a job runs: its script, `modules`, and all that they import from rkd.

    Snakemake re-runs a job when the content of one of its inputs changes. The list is read from the import
    statements themselves, so it can be neither too long nor forgotten.

    Args:
        script: path of the job's script, relative to the project's root, for example workflow_scripts/train.py.
        modules: modules that the script imports by a computed name, for example "rkd.methods.reptile".

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
def _imports(path: Path) -> tuple[Path, ...]:
    """Files of the rkd modules that the file `path` imports, wherever in it the statement stands."""
    result: list[Path] = []
    type_checking: set[ast.AST] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            type_checking.update(child for statement in node.body for child in ast.walk(statement))
        if node in type_checking:  # seen by type checkers only
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        result.extend(file for name in names for file in _module_files(name))
    return tuple(result)


def _module_files(module: str) -> list[Path]:
    """The file of an rkd module and the `__init__.py` of every package on the way to it; empty for other names."""
    parts = module.split(".")
    if parts[0] != "rkd":
        return []
    files = [ROOT.joinpath(*parts[:i], "__init__.py") for i in range(1, len(parts) + 1)]
    files.append(ROOT.joinpath(*parts).with_suffix(".py"))
    return [file for file in files if file.is_file()]
