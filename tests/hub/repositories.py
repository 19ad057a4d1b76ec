"""Tiny repositories in the layouts of those that the configs name: GLUE, BERT, TinyBERT, two MiniLMs."""

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from datasets import ClassLabel, Features, Value
from safetensors.torch import save
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertForPreTraining

from rkd.data.hub import HUB_NAME, HUB_REVISION
from rkd.tasks import Task, get
from tests.hub.server import Repository

BERT = "google-bert/bert-base-uncased"
TINYBERT = "huawei-noah/TinyBERT_General_6L_768D"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
PARAPHRASE = "sentence-transformers/paraphrase-MiniLM-L3-v2"
# The commits that configs/paper.yaml and configs/cpu.yaml pin.
PINS = {
    BERT: "86b5e0934494bd15c9632b12f734a8a67f723594",
    TINYBERT: "8b6152f3be8ab89055dea2d040cebb9591d97ef6",
    MINILM: "1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
    PARAPHRASE: "4ca70771034acceecb2e72475f72050fcdde4ddc",
}

NAMES = ["Ann", "Bob", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hal"]
WORDS = ["because", "box", "dog", "gone", "had", "he", "not", "she", "table", "thanked", "the", *NAMES]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *map(str.lower, WORDS)]


def wnli_rows(split: str) -> list[dict[str, Any]]:
    """Rows of our own in the form of WNLI, as many as the official split has."""
    task, rows = get("wnli"), []
    for number in range(task.splits[split].rows):
        first, other = NAMES[number % 8], NAMES[(number * 3 + 1) % 8]
        label = -1 if split == "test" else number * 7 // 3 % 2
        texts = (
            f"{first} thanked {other} because {'she' if label else 'he'} had gone .",
            f"{other} had gone {number % 5} .",
        )
        rows.append({"sentence1": texts[0], "sentence2": texts[1], "label": label, "idx": number})
    return rows


def parquet(rows: list[dict[str, Any]], task: Task, names: list[str] | None = None, described: bool = True) -> bytes:
    """Rows as a Parquet file of the hub: int32 idx, and a description with the names of the classes."""
    columns = {field: [row.get(field) for row in rows] for field in rows[0]}
    label: Any = Value("float32") if task.regression else ClassLabel(names=names or list(task.labels))
    types = {field: Value("string") for field in task.text_fields} | {"label": label, "idx": Value("int32")}
    schema = Features({name: types[name] for name in columns if name in types}).arrow_schema
    table = pa.table({name: columns[name] for name in schema.names}, schema=schema)
    file = io.BytesIO()
    pq.write_table(table if described else table.replace_schema_metadata(None), file)
    return file.getvalue()


def readme(task: Task) -> bytes:
    """The card of a data set, with the names of the classes."""
    features = [
        {"name": task.text_fields[0], "dtype": "string"},
        {"name": "label", "dtype": {"class_label": {"names": {str(n): each for n, each in enumerate(task.labels)}}}},
    ]
    return f"---\n{yaml.safe_dump({'dataset_info': [{'config_name': task.name, 'features': features}]})}---\n".encode()


def wnli_files() -> dict[str, bytes]:
    """The files of `nyu-mll/glue` for WNLI, in texts of our own."""
    task = get("wnli")
    splits = {split: parquet(wnli_rows(split), task) for split in task.splits}
    return {"README.md": readme(task), **{f"wnli/{name}-00000-of-00001.parquet": each for name, each in splits.items()}}


def glue() -> Repository:
    """`nyu-mll/glue` at the pinned commit, with WNLI alone."""
    repository = Repository(HUB_NAME, "dataset")
    repository.commit(wnli_files(), HUB_REVISION)
    return repository


def bert(layers: int, width: int, seed: int) -> BertForPreTraining:
    """A BERT with its pretraining heads and random weights."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=130,
        initializer_range=0.2,
    )
    return BertForPreTraining(config)


def _config(model: BertForPreTraining, **changes: Any) -> bytes:
    config = {**model.config.to_dict(), "architectures": ["BertForMaskedLM"], **changes}
    unknown = ("transformers_version", "dtype", "id2label", "label2id")
    return json.dumps(
        {key: value for key, value in config.items() if key not in unknown and value is not None}
    ).encode()


def _vocabulary() -> bytes:
    return "".join(f"{token}\n" for token in VOCABULARY).encode()


def _tokenizer() -> dict[str, bytes]:
    numbers = {token: number for number, token in enumerate(VOCABULARY)}
    whole = BertWordPieceTokenizer(vocab=numbers, lowercase=True)
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    settings = {"do_lower_case": True, "model_max_length": 512, "tokenizer_class": "BertTokenizer", **special}
    return {
        "tokenizer.json": whole.to_str().encode(),
        "tokenizer_config.json": json.dumps(settings).encode(),
        "vocab.txt": _vocabulary(),
    }


def _tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()}


def old_bert(layers: int = 12, width: int = 16, name: str = BERT) -> Repository:
    """BERT-base as it lies on the hub: weights of LayerNorm under their old names, gamma and beta; other formats."""
    model = bert(layers, width, seed=1)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    tensors = {
        next((key.replace(new, was) for new, was in old.items() if key.endswith(new)), key): tensor
        for key, tensor in _tensors(model).items()
        if "position_ids" not in key
    }
    repository = Repository(name)
    files = {"config.json": _config(model), "model.safetensors": save(tensors), **_tokenizer()}
    repository.commit({**files, "README.md": b"# BERT", "flax_model.msgpack": b"not read"}, PINS.get(name))
    return repository


def tinybert(layers: int = 6, width: int = 16) -> Repository:
    """TinyBERT as it lies on the hub: a .bin with a layer for distillation, no model_type, of a tokenizer vocab.txt."""
    model = bert(layers, width, seed=2)
    tensors = _tensors(model) | {"fit_dense.weight": torch.ones(width, width), "fit_dense.bias": torch.zeros(width)}
    weights = io.BytesIO()
    torch.save(tensors, weights)
    config = json.loads(_config(model))
    del config["model_type"]
    repository = Repository(TINYBERT)
    files = {
        "config.json": json.dumps(config).encode(),
        "pytorch_model.bin": weights.getvalue(),
        "vocab.txt": _vocabulary(),
    }
    repository.commit(files, PINS[TINYBERT])
    return repository


def sentence_encoder(name: str, layers: int, width: int = 16, seed: int = 3) -> Repository:
    """A MiniLM of sentence-transformers as it lies on the hub: the encoder alone, without a prefix."""
    model = bert(layers, width, seed)
    repository = Repository(name)
    files = {"config.json": _config(model), "model.safetensors": save(_tensors(model.bert)), **_tokenizer()}
    files |= {"modules.json": b"[]", "1_Pooling/config.json": b"{}", "onnx/model.onnx": b"not read"}
    repository.commit(files, PINS[name])
    return repository


def everything() -> list[Repository]:
    """All that configs/paper.yaml and configs/cpu.yaml take from the hub, narrow, and WNLI alone."""
    models = [old_bert(), tinybert(), sentence_encoder(MINILM, 6), sentence_encoder(PARAPHRASE, 3, seed=4)]
    return [glue(), *models]
