"""Tokenisation of a task: raw splits → Arrow dataset, tokenizer and manifest in one folder."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, DatasetDict, Value, concatenate_datasets
from transformers import PreTrainedTokenizerBase

from rkd import tasks
from rkd.data import synthetic
from rkd.data.hub import HUB_NAME, HUB_REVISION
from rkd.data.official import content_hash
from rkd.data.raw import load_raw
from rkd.data.tokenizer import build_tokenizer
from rkd.data.unlabelled import SOFT, check_soft_labels, with_soft_labels, with_unlabelled
from rkd.errors import RkdError
from rkd.labels import listed
from rkd.models import hub
from rkd.models import source as model_source
from rkd.models.tokenizer import load_tokenizer, save_tokenizer, shortest
from rkd.runs.prepared import STUDENT, STUDENT_TOKENIZER, TOKENIZER, content_digest, file_digests
from rkd.utils.files import atomic_path, write_json
from rkd.utils.known_files import known_sha256

logger = logging.getLogger(__name__)

# Below this number of dev rows of a label, a score of that class says little.
FEW_ROWS = 10
# A temporary column: True for truncated rows.
_TRUNCATED = "truncated"


def prepare(
    task: str,
    out_dir: str | Path,
    *,
    source: str,
    tokenizer: str,
    path: str | None = None,
    revision: str | None = None,
    tokenizer_revision: str | None = None,
    vocab_size: int = 2000,
    max_length: int = 128,
    synthetic_rows: Sequence[int] | None = None,
    synthetic_seed: int = 0,
    splits: Sequence[str] | None = None,
    custom_task: Mapping[str, Any] | None = None,
    tokenizer_content: str | None = None,
    glue_files: Mapping[str, str] | None = None,
    unlabelled: Mapping[str, str] | None = None,
    student_tokenizer: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """Write `dataset/`, `tokenizer/` and `manifest.json` to `out_dir`, and return the manifest.

    `dataset/` is a `DatasetDict` with the columns input_ids, token_type_ids (only for tokenizers that make them), label
    (int64 class id, or float32 score; -1 or NaN where unlabelled) and idx (int64). The train split of a task with soft
    labels has the column soft_labels: probabilities of all classes, or one score; NaN where none. Rows are truncated to
    `max_length` tokens and not padded. `out_dir` is written atomically and replaces an existing folder. The manifest
    lists the SHA-256 of every file, which is checked before each use, and the SHA-256 of its own content
    (`rkd.runs.prepared`).

    Args:
        task: task name.
        out_dir: the folder to write.
        source: "hub", "glue_dir", "synthetic" or "files"; with `path`, `revision`, `splits` and `custom_task` as in
            `rkd.data.load_raw`.
        tokenizer: a model reference: hub name, folder, "package:…", or the path of a `.json` config of a randomly
            initialised model. For the latter a vocabulary is trained on the train split.
        tokenizer_revision: commit of a hub name in `tokenizer`.
        vocab_size: largest size of a trained vocabulary.
        max_length: longest input in tokens, special tokens included.
        synthetic_rows: (train, dev, test) rows of synthetic data; `rkd.data.synthetic.ROWS` by default.
        synthetic_seed: seed of synthetic data.
        tokenizer_content: what `rkd.models.source.ModelSource.tokenizer_content` must give; None checks nothing.
        glue_files: SHA-256 that files in the GLUE folder `path` must have, by split; None checks nothing.
        unlabelled: a file of texts (`path`, and optionally `sha256` and `where`) whose rows follow those of train,
            without labels: only methods with a teacher train on them. None: no such rows.
        student_tokenizer: that of students with a vocabulary of their own: `reference`, `revision` and `content`, as
            `tokenizer`, `tokenizer_revision` and `tokenizer_content`. Its tokens are in the further columns
            student_input_ids and perhaps student_token_type_ids, and it is in `student-tokenizer/`. None: students
            read what the teacher reads.

    Raises:
        RkdError: bad data (see `load_raw`); a tokenizer that does not load or does not match its digest; or a
            `max_length` outside the tokenizer's limits.

    >>> manifest = prepare("rte", "results/data/rte", source="synthetic", tokenizer="configs/models/tiny.json")
    >>> manifest["splits"]["train"]["rows"]
    2000
    """
    raw = load_raw(task, source, path, revision, splits, synthetic_rows or synthetic.ROWS, synthetic_seed, custom_task)
    known = tasks.get(task, custom_task)
    _check_glue_files(known, path, glue_files or {})
    fields = known.text_fields
    if custom_task is not None and custom_task.get("soft_labels") and "train" in raw:
        raw["train"] = with_soft_labels(known, raw["train"], custom_task)
    labelled = {name: split.num_rows for name, split in raw.items()}
    if unlabelled is not None and "train" in raw:
        raw["train"] = with_unlabelled(known, raw, unlabelled, custom_task)
    if "train" in raw and SOFT in raw["train"].column_names:
        check_soft_labels(raw["train"], custom_task or {})
    content = _tokenizer_content(tokenizer, tokenizer_content)
    encoder = _tokenizer(tokenizer, tokenizer_revision, raw, fields, vocab_size)
    _check_length(max_length, encoder, tokenizer)
    encoders = {TOKENIZER: encoder}
    warn_about_blank_texts(raw, fields)
    if custom_task is not None:
        _warn_about_custom_data(raw, known, held_out="validation" not in custom_task["files"])
    manifest: dict[str, Any] = {
        "task": task,
        "source": source,
        "path": path,
        "revision": hub.resolve(HUB_NAME, revision or HUB_REVISION, "dataset") if source == "hub" else None,
        "hub_name": HUB_NAME if source == "hub" else None,
        "seed": synthetic_seed if source == "synthetic" else None,
        "synthetic": source == "synthetic",
        "splits": {
            name: {"rows": split.num_rows, "sha256": content_hash(split, fields)} for name, split in raw.items()
        },
        "tokenizer": _describe(encoder, tokenizer, hub.commit_of(tokenizer, tokenizer_revision)) | {"content": content},
        "max_length": max_length,
    }
    data = encode(raw, encoder, fields, max_length)
    if student_tokenizer is not None:
        reference, own_revision = str(student_tokenizer["reference"]), student_tokenizer.get("revision")
        content = _tokenizer_content(reference, student_tokenizer.get("content"))
        encoders[STUDENT_TOKENIZER] = own = _tokenizer(reference, own_revision, raw, fields, vocab_size)
        _check_length(max_length, own, reference)
        data = _side_by_side(data, encode(raw, own, fields, max_length))
        described = _describe(own, reference, hub.commit_of(reference, own_revision))
        manifest["student_tokenizer"] = described | {"content": content}
    if custom_task is not None:
        manifest["custom_task"] = dict(custom_task)
    if unlabelled is not None and "train" in raw:
        manifest["unlabelled"] = {**unlabelled, "rows": raw["train"].num_rows - labelled["train"]}
    if "train" in raw and SOFT in raw["train"].column_names:
        manifest["soft_labels"] = {"sha256": _sha256(raw["train"][SOFT][:])}
    manifest["sha256"] = content_digest(manifest)
    return _write(Path(out_dir), data, encoders, manifest)


def _check_length(max_length: int, tokenizer: PreTrainedTokenizerBase, reference: str) -> None:
    if not (least := shortest(tokenizer)) <= max_length <= tokenizer.model_max_length:
        raise RkdError(
            f"max_length: found {max_length}; expected {least} to {tokenizer.model_max_length} for '{reference}'"
        )


def _side_by_side(teacher: DatasetDict, student: DatasetDict) -> DatasetDict:
    """Return the teacher's splits with the student's tokens in columns of their own."""
    both = DatasetDict()
    for name, split in student.items():
        inputs = [column for column in split.column_names if column not in ("label", "idx", SOFT)]
        own = split.select_columns(inputs).rename_columns({column: f"{STUDENT}{column}" for column in inputs})
        both[name] = concatenate_datasets([teacher[name], own], axis=1)
    return both


def encode(
    splits: Mapping[str, Dataset], tokenizer: PreTrainedTokenizerBase, fields: Sequence[str], max_length: int
) -> DatasetDict:
    """Tokenise every row of some splits, without padding.

    Rows are truncated to `max_length` on the tokenizer's truncation side, the longer text of a pair first. A warning
    gives the number of truncated rows.

    Args:
        splits: the rows, by the name of the split in the warning.
        fields: the columns of the texts.
    """

    def batch_ids(batch: dict[str, list[str]]) -> dict[str, list[Any]]:
        found = tokenizer(
            *(batch[field] for field in fields), truncation=True, max_length=max_length, return_attention_mask=False
        )
        return {**found, _TRUNCATED: [bool(each.overflowing) for each in found.encodings or ()]}

    encoded, truncated = DatasetDict(), {}
    for name, split in splits.items():
        # In memory: parallel jobs must not write to the shared cache of `datasets`.
        rows = split.map(batch_ids, batched=True, keep_in_memory=True, remove_columns=list(fields), desc="tokenising")
        inputs = [column for column in tokenizer.model_input_names if column in rows.column_names]
        truncated[name] = sum(rows[_TRUNCATED][:])
        kept = [column for column in ("label", "idx", SOFT) if column in rows.column_names]
        encoded[name] = rows.cast_column("idx", Value("int64")).select_columns([*inputs, *kept])
    if any(truncated.values()):
        side = "start" if tokenizer.truncation_side == "left" else "end"
        counts = ", ".join(f"{count} of {encoded[name].num_rows} rows in {name}" for name, count in truncated.items())
        logger.warning("texts are truncated at their %s to %d tokens: %s", side, max_length, counts)
    return encoded


def _tokenizer(
    reference: str, revision: str | None, raw: DatasetDict, fields: Sequence[str], vocab_size: int
) -> PreTrainedTokenizerBase:
    source = hub.local(model_source.parse(reference), revision, hub.TOKENIZER)
    if (folder := source.folder()) is not None:
        return load_tokenizer(folder)
    if source.kind == "config":
        if "train" not in raw:
            raise RkdError(f"tokenizer '{reference}': a vocabulary is trained on the train split, which is not read")
        return build_tokenizer((text for field in fields for text in raw["train"][field]), vocab_size)
    raise RkdError(f"tokenizer: found '{reference}'; expected a hub name, folder, package or .json config")


def _check_glue_files(task: tasks.Task, folder: str | None, expected: Mapping[str, str]) -> None:
    for split, digest in expected.items():
        file = Path(folder or "") / task.splits[split].file
        if (found := known_sha256(file)) != digest:
            raise RkdError(
                f"{file}: its SHA-256 is {found}; expected {digest}, as when the runs were planned: start again"
            )


def _tokenizer_content(reference: str, expected: str | None) -> str | None:
    found = model_source.parse(reference).tokenizer_content()
    if expected is not None and found != expected:
        raise RkdError(
            f"{reference}: the digest of its tokenizer is {found}; expected {expected}, its digest when the runs were "
            "planned: start again"
        )
    return found


def _describe(tokenizer: PreTrainedTokenizerBase, reference: str, revision: str | None) -> dict[str, Any]:
    vocabulary = tokenizer.get_vocab()
    return {
        "reference": reference,
        "revision": revision,
        "class": type(tokenizer).__name__,
        "vocab_size": len(vocabulary),
        "sha256": _sha256(vocabulary),
    }


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def warn_about_blank_texts(raw: Mapping[str, Dataset], fields: Sequence[str]) -> None:
    """Log a warning that counts the empty texts of each split.

    Args:
        raw: the rows, by the name of the split in the warning.
        fields: the columns of the texts.
    """
    for name, split in raw.items():
        blank = [row for field in fields for row, text in enumerate(split[field][:]) if not text.strip()]
        if blank:
            first = split["idx"][min(blank)] + 1
            logger.warning("%s: texts that are empty or white space: %d, the first in row %d", name, len(blank), first)


def _warn_about_custom_data(raw: DatasetDict, task: tasks.Task, *, held_out: bool) -> None:
    """Warn about likely mistakes: labels that never or rarely occur, and dev examples that are also in train.

    Args:
        raw: the splits.
        task: the task.
        held_out: True if dev is a fraction of the training rows.
    """
    never = {}
    ids = {name: _label_ids(task, raw[name]["label"][:]) for name in ("train", "validation")}
    for name in ("train", "validation"):
        seen = set(ids[name])
        if name == "train" and seen == {-1}:  # soft labels alone
            continue
        never[name] = [label for code, label in enumerate(task.labels) if code not in seen]
    for name, labels in never.items():
        message = f"{len(labels)} of {len(task.labels)} labels never occur: {listed(map(repr, labels))}"
        moved = [label for label in labels if label not in never["validation"]]
        if held_out and name == "train" and moved:
            message += f"; all rows of {listed(map(repr, moved))} are held out for dev: give a dev file"
        if labels:
            logger.warning("%s: %s", name, message)
    counts = Counter(ids["validation"])
    rare = [f"{label!r} {counts[code]}" for code, label in enumerate(task.labels) if 0 < counts[code] < FEW_ROWS]
    if rare:
        logger.warning("validation: labels with fewer than %d rows, whose scores vary much: %s", FEW_ROWS, listed(rare))
    train, dev = (
        zip(*(raw[name][field][:] for field in task.text_fields), strict=True) for name in ("train", "validation")
    )
    known = set(train)
    repeated = sum(texts in known for texts in dev)
    if repeated:
        logger.warning("validation: %d of %d texts also occur in train", repeated, raw["validation"].num_rows)


def _label_ids(task: tasks.Task, labels: Sequence[Any]) -> list[Any]:
    """Return the class id of every row or, with several labels per text, those of all sets."""
    if not task.multi_label:
        return list(labels)
    return [code for number in labels for code in range(task.num_labels) if number >= 0 and number >> code & 1]


def _write(
    out_dir: Path, data: DatasetDict, tokenizers: Mapping[str, PreTrainedTokenizerBase], manifest: Mapping[str, Any]
) -> dict[str, Any]:
    """Write all parts and return the manifest with the digests of the files."""
    with atomic_path(out_dir) as folder:
        data.save_to_disk(folder / "dataset")
        for name, tokenizer in tokenizers.items():
            # Reset the truncation left by earlier calls and any packaged padding: the caller chooses both.
            tokenizer.backend_tokenizer.no_truncation()
            tokenizer.backend_tokenizer.no_padding()
            save_tokenizer(tokenizer, folder / name)
        complete = {**manifest, "files": file_digests(folder)}
        write_json(folder / "manifest.json", complete)
    return complete


@contextmanager
def without_bars() -> Iterator[None]:
    """Disable the progress bars of `datasets` in a block or, as a decorator, in a function."""
    if datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()
