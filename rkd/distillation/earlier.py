"""Earlier distillations in a folder, and how a new one differs from them. No torch."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rkd.errors import RkdError
from rkd.labels import listed
from rkd.runs.manifest import read_manifest
from rkd.runs.record import OUTPUTS, changes, read_record
from rkd.specs.jobs import RunSpec
from rkd.utils.files import digests


class Earlier:
    """The records in the folder of a distillation, read before a new one writes anything there.

    Args:
        folder: the folder of `rkd.distill`; one without a finished run is of no earlier task.

    Example:
        >>> Earlier(Path("distilled")).refuse_columns(["text"], "mood")
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._task: dict[str, Any] = {}
        self._manifest: dict[str, Any] = {}
        for part in ("student", "teacher"):
            with contextlib.suppress(RkdError):  # a damaged record is of no finished run
                self._task = (
                    self._task or read_record(folder / part / "run.json", "spec")["spec"].get("custom_task") or {}
                )
        with contextlib.suppress(RkdError):
            self._manifest = read_manifest(folder / "data" / "manifest.json")

    def refuse_columns(self, text: Sequence[str], label: str | Sequence[str]) -> None:
        """Refuse other columns than those of the finished run."""
        if self._task and self._task["text"] != list(text):
            self._refuse(f"text {listed(self._task['text'])}", listed(text))
        before, now = (
            one if isinstance(one, str) else listed(one) for one in (self._task["label"] if self._task else "", label)
        )
        if self._task and before != now:
            self._refuse(f"label {before}", now)

    def refuse_rows(self, where: str, sha256: str) -> None:
        """Refuse other training data than those of the finished run.

        Args:
            where: what errors call the data.
            sha256: of their file.
        """
        found = self._manifest.get("custom_task", {}).get("files", {}).get("train") if self._task else None
        if isinstance(found, dict) and found.get("sha256") != sha256:
            earlier = found.get("where", found.get("path"))
            self._refuse(f"training data {earlier}", f"other rows in {where}" if earlier == where else where)

    def refuse_labels(self, names: Sequence[str], *, whole: bool) -> None:
        """Refuse other labels than those of the finished run.

        Args:
            names: the labels; none for scores.
            whole: whether they are all labels in their order; else a teacher may have more.
        """
        before = self._task.get("labels", [])
        same = before == list(names) if whole or not names or not before else set(names) <= set(before)
        if self._task and not same:
            told = [f"labels {listed(each)}" if each else "scores" for each in (before, names)]
            self._refuse(*told)

    def _refuse(self, before: str, now: str) -> None:
        raise RkdError(
            f"{self._folder}: found a finished run of another task ({before} → {now}); expected the same task; "
            "give another folder as out, or delete this one"
        )

    def differences(
        self, run: Path, spec: RunSpec, manifest: Mapping[str, Any], teacher: Path | None, files: Mapping[str, str]
    ) -> list[str] | None:
        """Compare a training with the finished one in its folder; empty if equal, None if there is none.

        Args:
            run: the folder of the run.
            spec: the new training's.
            manifest: that of its data.
            teacher: the model that it learns from, if any.
            files: digests of files of the user's own that decide it, by what they are.
        """
        try:
            record = read_record(run / "run.json", "spec", "data")
        except RkdError:
            return None
        found = list(_settings(record["spec"], json.loads(json.dumps(asdict(spec)))))
        if record["data"]["sha256"] != manifest["sha256"]:
            known = record["data"]["sha256"] == self._manifest.get("sha256")
            found += (list(_settings(_facts(self._manifest), _facts(manifest))) if known else []) or ["the data"]
        code = record.get("code") or {}
        found += [f"the source of {name}" for name, digest in files.items() if code.get(name) != digest]
        if teacher is not None and record.get("teacher") != digests(teacher):
            found.append("the teacher")
        if (outputs := record.get("outputs")) is None:
            found.append("run.json lists no SHA-256 of its files")
        else:
            found += changes(run, outputs, *OUTPUTS)
        return found


def _facts(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide prepared data, by the names of the arguments of `rkd.distill`."""
    own = manifest.get("custom_task", {})
    files = {split: entry.get("sha256") for split, entry in own.get("files", {}).items()}
    return {
        "max_length": manifest.get("max_length"),
        **{key: own.get(key) for key in ("scores", "dev_fraction", "dev_seed")},
        "dev": files.get("validation"),
        "test": files.get("test"),
        "unlabelled": (manifest.get("unlabelled") or {}).get("sha256"),
        "soft_labels": (manifest.get("soft_labels") or {}).get("sha256"),
        "student_tokenizer": (manifest.get("student_tokenizer") or {}).get("sha256"),
        "tokenizer": manifest.get("tokenizer", {}).get("sha256"),
    }


def _settings(before: Mapping[str, Any], now: Mapping[str, Any], within: str = "") -> Iterator[str]:
    """Yield the values that differ, by the names that users know; of options only those that both have."""
    for key in dict.fromkeys((*before, *now)):
        old, new = before.get(key), now.get(key)
        # Outside the workflow a variant is called as its method.
        if old == new or key == "variant" or (within == "options" and not (key in before and key in now)):
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _settings(old, new, key)
        else:
            name = f"model {key}" if within == "model" else key
            if _is_digest(old) or _is_digest(new):  # says nothing to a reader
                words = ("teacher", "own") if key == "student_tokenizer" else ("none", "given")
                was, now_is = words[bool(old)], words[bool(new)]
                yield f"{name} changed" if old and new else f"{name} {was} → {now_is}"
                continue
            yield f"{name} {_shown(old)} → {_shown(new)}"


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:79]}…"
