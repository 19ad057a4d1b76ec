"""Digests of the splits of the official GLUE release, independent of source and format."""

import hashlib
import json
import math
from collections.abc import Sequence

from datasets import Dataset

from rkd.errors import RkdError
from rkd.tasks import Task

# `content_hash` of the splits of the official TSV files, by task and split. The files of QQP and the train files of
# MNLI and QNLI were not available: for those splits only the number of rows is checked.
SHA256 = {
    ("cola", "train"): "fa3d1c8fcc50320c518d16547ce45015f822ac8b58b18bb3e5591da329621ae9",
    ("cola", "validation"): "96f5f5a4862ed183850f41becab9e79eb9b350bde9f35d4f335e0bf2a41c6949",
    ("cola", "test"): "7604a6834aebf243f713a8cf78f3c839081a2f90c13a5671df87c880bc8d948e",
    ("sst2", "train"): "24e453460d495c3e1ddea8b2ae961a0711c7c4dca0829dece1f360a3c03af2c5",
    ("sst2", "validation"): "5aab10eed29073199c045cbfea6812158a2946c06019b976b5c8e5d491fa6364",
    ("sst2", "test"): "ce496eacae3a5bae62defafdb7cff0f37000483ccf226c11f06697549ae91dae",
    ("mrpc", "train"): "d291b7467bfc5fd2dc63b13f0a2f44313fa6075f8cccde6ffbb785bb6d9cedc2",
    ("mrpc", "validation"): "ecbc683ded1ce6441b0d5a55dad452ae1b3f985aae3b208569007eb363764696",
    ("mrpc", "test"): "0a5104640265e730af8d3a898a98fa214731abb0aac8f1139aecc7adff201e7d",
    ("stsb", "train"): "f5d114d9d67949af12207e7607fb0ecd52ff80146723b41a46943fc9aa5221d7",
    ("stsb", "validation"): "a9a78c4496fded489ecb49f0e138eb6494a0a6a50262e9fd70f7304a43b8a0f3",
    ("stsb", "test"): "a678fc05900f28a1fc7c2aa39cbaffb6ccde00cd5a47f33b541ecfc3a25af5a8",
    ("mnli", "validation_matched"): "68ba4cad8dba95554c7dbcc17a68cfb02c2a15a84e768d33626fcd1fa27ba600",
    ("mnli", "validation_mismatched"): "0cc6d638ac8503fb24e89167a14935657d6622cd756f815a9d638d36294ef7bf",
    ("mnli", "test_matched"): "6e3e07722f0de29aba2b1f72be4c51b555f36414f85b9425fdcf64de1f521a8a",
    ("mnli", "test_mismatched"): "67618dff33724bca9af87a68be6db8df2c5973c548e70dd215aaa1dec87500d3",
    ("qnli", "validation"): "46290fb1f840c3f41809dd6d50930bb49a103003c8581975c0f6f56a7fdd5b30",
    ("qnli", "test"): "039dfdd4a70652448e00f1684e301406fedc6be2527658b7c9eb8de1b4b6978b",
    ("rte", "train"): "5ec22905f1008085176266d3be3283d7573e9fd50f2b647ff3f33326a12157c0",
    ("rte", "validation"): "8ebd9440871ff2a9db8d173c7755b982616d1f005659e972774e1a0850f99622",
    ("rte", "test"): "c166347e267c58d474ca66eff39fec67e3e6a7aef0a3e80f15c89e6c7f28fadd",
    ("wnli", "train"): "853f123b199f53853c3ad4ad16c21cea147faba8e2c70250fe9c5047f0d2eee7",
    ("wnli", "validation"): "0560c93c5bf4b1acca764d8fde9f38c364acda1934699e6b84e11888d9318460",
    ("wnli", "test"): "f8f798c0abecae7ef8d8bafa4d219c6833cd8e5331c5ca13d6df75df018f8863",
    ("ax", "ax"): "a9909aa3252635c6867b1967921f599e973dff30758dbf1d941e4e6d1d559a2d",
}


def content_hash(data: Dataset, fields: Sequence[str]) -> str:
    """Return the SHA-256 of texts and labels in order, one JSON array per row; independent of library versions."""
    digest = hashlib.sha256()
    for row in zip(*(data[field] for field in fields), map(_canonical, data["label"]), strict=True):
        digest.update(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def check(task: Task, split: str, data: Dataset, where: str) -> None:
    """Check that a split has the texts and labels of the official release, in the same order.

    Args:
        where: name of the split in the message.

    Raises:
        RkdError: the digest differs from the official one. Splits without a known digest always pass.
    """
    expected = SHA256.get(("ax", "ax") if split == "ax" else (task.name, split))
    if expected is not None and (found := content_hash(data, task.text_fields)) != expected:
        raise RkdError(
            f"{where}: found texts and labels with the digest {found}; expected {expected}, that of the official "
            "release"
        )


def _canonical(label: float) -> float | None:
    """Return None for NaN, which JSON lacks, and scores rounded to the at most three decimals of the official files."""
    return None if math.isnan(label) else round(label, 3)
