"""Refuse wording that the project has given up: old names, clumsy phrases, docstrings out of form.

Run as `python .ci/wording.py`. Prints `file:line: problem` and exits with 1 for every finding outside the to-do list,
`.ci/wording-todo.txt`; `--write-todo` writes that list anew.
"""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TODO = ROOT / ".ci" / "wording-todo.txt"
HEAD = "# Files whose wording is still to be put right, and of which kind. An entry goes when its file is clean."

# Old name → the field's. Whole words only.
OLD_NAMES = {
    r"own_tasks?": "custom_tasks",
    r"headlines?": "primary metric, primary score",
    r"(?:held_out|quiz|dev)_share": "…_fraction",
    r"batch_order": "group_by_length",
    r"length-grouped": "group_by_length",
    r"pull_(?:to|direction|scope)": "outer_target, outer_direction, outer_scope",
    r"teacher_moves|moving teacher": "trainable teacher",
    r"scored_by": "metrics",
    r"KnownLogits": "LogitCache",
    r"RandomState": "RngState",
    r"quick_imports": "gc_paused",
}
PHRASES = {
    r"found something that": "say what it is: exists and is not …",
    r"expected as many": "expected equal lengths",
    r"is no (?=file|folder|number|name|git|directory)": "is not a",
    r"in vain": "overhead",
    r"[Ww]hatever moment": "no matter when",
    r"look out": "stay visible",
}
CLAUSE = re.compile(r"(?:Where|What|Whatever|Whether|Of|Which|Whose|How)\b")

# Old names are quoted where they are translated, and where the past is told.
EXEMPT = (
    "CHANGELOG.md",
    "rkd/specs/renamed.py",
    "results/published/",
    "tests/unit/config/test_schema.py",
    ".ci/wording",
)
DOCUMENTED = ("rkd/", "workflow_scripts/")
SUFFIXES = {".py", ".md", ".smk", ".yaml", ".yml", ".rst", ".jinja", ".toml", ""}


def files() -> Iterator[str]:
    """Yield the tracked text files that the rules apply to."""
    listed = output("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    for name in listed:
        path = ROOT / name
        if path.is_file() and path.suffix in SUFFIXES and not name.startswith(EXEMPT):
            yield name


def problems(name: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line, kind, message) of each finding in a file."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, better in () if "renamed" in line.lower() else OLD_NAMES.items():
            if found := re.search(rf"(?<![\w-])(?:{pattern})(?![\w-])", line):
                yield number, "name", f"{found[0]!r} is an old name; write {better}"
        for pattern, better in PHRASES.items():
            if found := re.search(pattern, line):
                yield number, "phrase", f"{found[0]!r}; {better}"
    if name.startswith(DOCUMENTED) and name.endswith(".py"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                first = (ast.get_docstring(node) or "").partition("\n")[0]
                if CLAUSE.match(first):
                    yield node.body[0].lineno, "clause", f"{first[:50]!r} begins with a clause; name the result"


def moods() -> Iterator[tuple[str, int, str, str]]:
    """Yield (file, line, kind, message) of docstrings that ruff's D401 and D415 refuse."""
    rules = ("--select", "D401,D415", "--ignore", "E,F", "--output-format", "json", "--exit-zero")
    for found in json.loads(output("ruff", "check", *rules, *DOCUMENTED)):
        path = Path(found["filename"]).relative_to(ROOT)
        yield str(path), found["location"]["row"], found["code"], found["message"]


def output(*command: str) -> str:
    """Run a command in the project and return what it prints."""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout


def main(arguments: list[str]) -> int:
    """Check all files, or write the to-do list."""
    all_problems = [(name, *problem) for name in files() for problem in problems(name)]
    all_problems += moods()
    found = [(f"{name}: {kind}", f"{name}:{line}: {message}") for name, line, kind, message in all_problems]
    entries = {entry for entry, _ in found}
    if "--write-todo" in arguments:
        TODO.write_text("\n".join([HEAD, *sorted(entries)]) + "\n", encoding="utf-8")
        return 0
    allowed = {line for line in TODO.read_text(encoding="utf-8").splitlines() if not line.startswith("#")}
    told = [message for entry, message in found if entry not in allowed]
    told += [f"{TODO.name}: {entry}: is clean; delete this entry" for entry in sorted(allowed - entries)]
    for line in told:
        print(line)
    return int(bool(told))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
