"""The recorded provenance of a table, a figure or the page."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rkd.runs.paths import Run, located, store_of
from rkd.verify.earlier import current_command
from rkd.verify.finding import object_in

RESULTS = "results/"


class Section(NamedTuple):
    """The files in a folder of tables, figures or the page."""

    script: re.Pattern[str]  # nothing else is ever run because a record says so
    suffixes: tuple[str, ...]  # of the files beside the record
    option: str  # of the script, which says where it writes
    value: str  # of that option in the workflow, by the record's stem


SECTIONS = {
    "tables": Section(
        re.compile(r"workflow_scripts/make_(?!report|submission)[a-z_]+\.py"),
        (".csv", ".md", ".tex", ".html"),
        "--out-dir",
        "results/{experiment}tables",
    ),
    "figures": Section(
        re.compile(r"workflow_scripts/plot_[a-z_]+\.py"),
        (".pdf", ".png"),
        "--out",
        "results/{experiment}figures/{stem}",
    ),
    "report": Section(
        re.compile(r"workflow_scripts/make_report\.py"), (".html",), "--out", "results/{experiment}report/{stem}.html"
    ),
}
MADE = tuple(SECTIONS)  # the folders of what has such a record


class Origin(NamedTuple):
    """The provenance of a table, a figure or the page, from its record."""

    command: list[str]
    inputs: dict[str, str]  # SHA-256 by file
    code: dict[str, str]
    outputs: dict[str, str] | None  # SHA-256 by name; None where the record is older than that

    @classmethod
    def of(cls, section: str, record: Mapping[str, Any]) -> "Origin | None":
        """Read the provenance in a record of `section`; None if there is none that can be checked."""
        made, kind = record.get("origin"), SECTIONS[section]
        if not isinstance(made, dict):
            return None
        command, outputs = made.get("command"), made.get("outputs")
        if not isinstance(command, list) or not command:
            return None
        whole = (
            # @FILE would read arguments from any file; a record has them in its place.
            all(isinstance(word, str) and not word.startswith("@") for word in command)
            and kind.script.fullmatch(command[0]) is not None
            and kind.option in command[:-1]
            and all(isinstance(made.get(key), dict) for key in ("inputs", "code"))
            and (outputs is None or isinstance(outputs, dict))
        )
        return cls(current_command(command), made["inputs"], made["code"], outputs) if whole else None

    @property
    def experiment(self) -> str:
        """The name of the experiment that it was written for; empty in earlier versions."""
        for option, section in (("--out-dir", 0), ("--out", 1)):
            words = (self.argument(option) or "").split("/")
            if words[0] == RESULTS.strip("/") and len(words) == 3 + section:
                return words[1]
        return ""

    def sources(self, folder: Path) -> dict[str, str]:
        """Return the inputs in the results, by their path in the store.

        Args:
            folder: the folder of the experiment; one that was kept holds the runs too (`rkd.runs.paths.store_of`).
        """
        found = {file.removeprefix(RESULTS): known for file, known in self.inputs.items() if file.startswith(RESULTS)}
        if self.experiment and store_of(folder) == folder:
            found = {name.removeprefix(f"{self.experiment}/"): known for name, known in found.items()}
        return found

    @property
    def project_files(self) -> dict[str, str]:
        """The other inputs, such as a style, which come with the code."""
        return {file: known for file, known in self.inputs.items() if not file.startswith(RESULTS)}

    def argument(self, option: str) -> str | None:
        """Return the value of an option of the command, or None."""
        return self.command[self.command.index(option) + 1] if option in self.command[:-1] else None

    def runs(self) -> dict[Run, None]:
        """Return the runs that the inputs belong to."""
        return dict.fromkeys(place[1] for place in map(located, self.inputs) if place is not None)


def origin_in(record: Path) -> Origin | None:
    """Read the provenance in a file, or None."""
    return Origin.of(record.parent.name, object_in(record) or {})
