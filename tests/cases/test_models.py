"""Models and tokenizers that a library loads without a word, though they are not what their files say."""

import json
import math
import shutil
import subprocess

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForSequenceClassification, BertModel, BertTokenizer, pipeline

import rkd
from rkd.config import load
from rkd.config.problems import ConfigError
from rkd.data.prepare import prepare
from rkd.errors import RkdError
from rkd.export import export
from rkd.inference import Classifier
from rkd.models import files, loading
from rkd.models.source import parse
from rkd.models.tokenizer import load_tokenizer
from rkd.specs.jobs import ModelSpec, RunSpec
from rkd.tasks import get
from rkd.training.batches import load_prepared
from rkd.utils.files import sha256
from tests.helpers import ROOT, TIMEOUT
from tests.helpers.architectures import ARCHITECTURES, classifier, save, tokenizer
from tests.helpers.commands import told
from tests.helpers.configs import edit, plan_of
from tests.helpers.distillation import FRAME, QUICK, TEXTS, distil

PAIRS = FRAME.assign(second=TEXTS[::-1])
RTE = get("rte")
# XLNet reads its answer at the last token, which is padding in our batches.
READS = [kind for kind in ARCHITECTURES if kind != "xlnet"]


@pytest.fixture
def bert(tmp_path):
    """A fine-tuned classifier with its tokenizer."""
    return save(tmp_path / "bert", "bert")


@pytest.fixture
def table(tmp_path):
    FRAME.to_csv(tmp_path / "data.csv", index=False)
    return tmp_path / "data.csv"


# A folder without its tokenizer.


@pytest.mark.parametrize("left", [(), ("tokenizer_config.json",), ("tokenizer_config.json", "special_tokens_map.json")])
def test_a_model_without_its_vocabulary_is_refused_everywhere(bert, table, left):
    for file in ("tokenizer.json", "tokenizer_config.json"):
        if file not in left:
            (bert / file).unlink()
    for file in left:
        (bert / file).touch()
        (bert / file).write_text("{}")
    found = ", ".join(sorted(left, reverse=True)) or "no tokenizer files"
    for text in (told(Classifier, str(bert), text=["text"]), told(distil, bert), told(load_tokenizer, bert)):
        assert text.startswith(f"{bert}: found no vocabulary ({found}); expected the tokenizer's tokenizer.json")
    problem = str(ConfigError(load.check(plan_of().config | {"teacher_model": str(bert)})))
    assert "- teacher_model: " in problem
    assert "found no vocabulary" in problem


def test_a_vocabulary_of_another_class_is_not_taken_for_the_tokenizers(tmp_path):
    folder = save(tmp_path / "roberta", "roberta")
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("<s>\n<pad>\ngood\n")
    assert told(load_tokenizer, folder) == (
        f"{folder}: found no vocab.json; expected it, or tokenizer.json: RobertaTokenizer reads it"
    )


def test_a_cased_vocabulary_is_not_put_in_lower_case_by_default(bert):
    vocabulary = {
        token: index for index, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "The", "the"])
    }
    BertTokenizer(vocab=vocabulary, do_lower_case=False).save_pretrained(bert)
    assert load_tokenizer(bert)("The the")["input_ids"] == [2, 5, 6, 3]
    (bert / "tokenizer_config.json").unlink()
    assert "found no do_lower_case; expected it, false for a vocabulary with words such as 'The'" in told(
        load_tokenizer, bert
    )


@pytest.mark.parametrize("part", ["tokenizer.json", "tokenizer_config.json"])
def test_prepared_data_without_a_part_of_their_tokenizer_are_refused(tmp_path, part):
    prepare("rte", tmp_path / "rte", source="synthetic", tokenizer=str(ROOT / "configs/models/bert-2x128.json"))
    (tmp_path / "rte" / "tokenizer" / part).unlink()
    assert f"{tmp_path / 'rte' / 'tokenizer' / part}: missing; expected a" in told(load_prepared, tmp_path / "rte")


# What is loaded is what is checked.


def test_other_weights_than_those_beside_the_config_are_refused(bert, table):
    shutil.copy(bert / "model.safetensors", bert / "other.safetensors")
    edit(bert / "config.json", transformers_weights="other.safetensors")
    expected = (
        f"{bert}/config.json: found transformers_weights, which names another weights file; expected a plain model"
    )
    assert told(Classifier, str(bert), text=["text"]).startswith(f"reference: {expected}")
    assert told(loading.load, ModelSpec(str(bert), sha256=sha256(bert / "model.safetensors")), RTE, 26, 1).startswith(
        expected
    )
    assert told(parse(str(bert)).read_config).startswith(expected)


@pytest.mark.parametrize(
    ("file", "fields", "found"),
    [
        ("config.json", {"auto_map": {"AutoModel": "modeling.Mine"}}, "auto_map"),
        ("config.json", {"quantization_config": {"load_in_8bit": True}}, "quantization_config"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["mine.Mine", None]}}, "auto_map"),
        ("tokenizer_config.json", {"fast_tokenizer_files": ["tokenizer.4.json"]}, "fast_tokenizer_files"),
        ("adapter_config.json", {"base_model_name_or_path": "/elsewhere"}, "an adapter"),
    ],
)
def test_files_that_make_the_library_load_something_else_are_refused(bert, file, fields, found):
    if not (bert / file).exists():
        (bert / file).write_text("{}")
    edit(bert / file, **fields)
    text = told(distil, bert)
    assert str(bert) in text
    assert f"found {found}" in text


def shard(folder, names=("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")):
    """Cut a folder's weights in two parts with these names."""
    tensors = sorted(load_file(folder / "model.safetensors").items())
    (folder / "model.safetensors").unlink()
    halves = dict(tensors[::2]), dict(tensors[1::2])
    parts = {name: where for half, where in zip(halves, names, strict=True) for name in half}
    for half, name in zip(halves, names, strict=True):
        save_file(half, folder / name, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": parts}))


def test_the_checksum_of_weights_in_parts_covers_every_part(bert):
    whole = loading.load_finetuned(bert).state_dict()
    shard(bert)
    expected = files.weights_sha256(bert)
    command = "sha256sum model.safetensors.index.json model-*.safetensors | LC_ALL=C sort -k 2 | sha256sum"
    shell = subprocess.run(command, shell=True, cwd=bert, capture_output=True, text=True, check=True, timeout=TIMEOUT)
    assert shell.stdout.split()[0] == expected, "as docs/configuration.md says"
    loaded = loading.load(ModelSpec(str(bert), sha256=expected), RTE, 26, 1).state_dict()
    assert all(torch.equal(tensor, whole[name]) for name, tensor in loaded.items())
    second = bert / "model-00002-of-00002.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(second).items()}, second, metadata={"format": "pt"})
    text = told(loading.load, ModelSpec(str(bert), sha256=expected), RTE, 26, 1)
    assert text.startswith(f"{bert}/model.safetensors.index.json: sha256 is ")
    second.unlink()
    assert told(loading.load_finetuned, bert) == f"{second}: not found; model.safetensors.index.json names it"


@pytest.mark.parametrize(
    "name", ["../elsewhere.safetensors", "/tmp/elsewhere.safetensors", "sub/part.safetensors", ".."]
)
def test_a_part_of_the_weights_outside_the_folder_is_refused(bert, name):
    shard(bert)
    index = bert / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("model-00002-of-00002.safetensors", name))
    text = told(loading.load_finetuned, bert)
    assert text == f"{index}: found the part {name!r}; expected the name of a file in the same folder"


# What decides a result is in its spec, by content.


def test_an_edited_model_config_gives_another_plan(tmp_path):
    for role in ("teacher", "student"):
        shutil.copy(ROOT / "configs/models/bert-2x128.json", tmp_path / f"{role}.json")
    keys = {f"{role}_model": str(tmp_path / f"{role}.json") for role in ("teacher", "student")}

    def specs():
        plan = plan_of(**keys)
        return plan.data("rte").json(), plan.teacher("rte", 1).json(), plan.student("rte", "kd", 1).json()

    before = specs()
    assert specs() == before
    edit(tmp_path / "student.json", hidden_dropout_prob=0.5)
    data, teacher, student = specs()
    assert (data, teacher) == before[:2]
    assert student != before[2]
    edit(tmp_path / "teacher.json", num_hidden_layers=1)
    assert specs()[0] == before[0], "the vocabulary is built from the data alone"
    assert specs()[1] != before[1]
    assert RunSpec.from_json(student).json() == student


def test_edited_weights_and_an_edited_tokenizer_give_another_plan_and_other_files_do_not(bert):
    def specs():
        plan = plan_of(teacher_model=str(bert), student_model="teacher-layers:1", tasks=["rte"])
        return plan.data("rte").json(), plan.teacher("rte", 1).json(), plan.student("rte", "kd", 1).json()

    before = specs()
    (bert / "README.md").write_text("A model.")
    (bert / "optimizer.pt").write_bytes(b"state")
    assert specs() == before
    weights = {name: tensor + 1 for name, tensor in load_file(bert / "model.safetensors").items()}
    save_file(weights, bert / "model.safetensors", metadata={"format": "pt"})
    data, teacher, student = specs()
    assert data == before[0]
    assert teacher != before[1]
    assert student != before[2], "it takes the teacher's layers"
    edit(bert / "tokenizer_config.json", strip_accents=False)
    assert specs()[0] != before[0]
    assert specs()[1:] == (teacher, student), "the prepared data say that they are others"


def test_a_copied_model_has_the_same_content(bert, tmp_path):
    shutil.copytree(bert, tmp_path / "elsewhere")
    ours, theirs = parse(str(bert)), parse(str(tmp_path / "elsewhere"))
    assert ours.content() == theirs.content()
    assert ours.tokenizer_content() == theirs.tokenizer_content()


def test_a_model_that_changed_after_the_plan_is_refused(tmp_path, bert):
    file = tmp_path / "small.json"
    shutil.copy(ROOT / "configs/models/bert-2x128.json", file)
    spec = ModelSpec(str(file), content=parse(str(file)).content())
    loading.load(spec, RTE, 50, 1)
    edit(file, num_hidden_layers=1)
    assert told(loading.load, spec, RTE, 50, 1).startswith(f"{file}: its content has the digest ")
    expected = parse(str(bert)).tokenizer_content()
    edit(bert / "tokenizer_config.json", strip_accents=False)
    text = told(prepare, "rte", tmp_path / "rte", source="synthetic", tokenizer=str(bert), tokenizer_content=expected)
    assert text.startswith(f"{bert}: the digest of its tokenizer is ")


def test_a_run_is_trained_anew_when_its_models_change(tmp_path, bert, caplog):
    student = tmp_path / "student.json"
    fields = json.loads((bert / "config.json").read_text()) | {"num_hidden_layers": 1}
    student.write_text(json.dumps(fields))
    run = {"teacher": bert, "student": str(student), "out": tmp_path / "out"}
    first = distil(**run)
    caplog.set_level("INFO", logger="rkd")
    distil(**run)
    assert "finished already" in caplog.text
    edit(student, num_hidden_layers=2)
    caplog.clear()
    second = distil(**run)
    assert "finished already" not in caplog.text
    assert (loading.depth(first.student), loading.depth(second.student)) == (2, 2)  # both are read from the same folder
    assert json.loads((tmp_path / "out/student/run.json").read_text())["spec"]["model"]["content"] == sha256(student)


# Weights that are no numbers.


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused_everywhere(bert, table, value, tmp_path):
    weights = load_file(bert / "model.safetensors")
    weights["bert.encoder.layer.1.output.dense.weight"][0, 0] = value
    save_file(weights, bert / "model.safetensors", metadata={"format": "pt"})
    expected = (
        f"{bert}: found NaN or infinite weights in bert.encoder.layer.1.output.dense.weight (1 such parameters); "
        "expected finite numbers"
    )
    assert told(Classifier, str(bert), text=["text"]) == expected
    assert told(distil, bert) == expected
    assert told(distil, bert, finetune_teacher=True) == expected
    in_memory = BertForSequenceClassification.from_pretrained(bert)
    text = told(distil, in_memory, tokenizer=tokenizer("bert"))
    assert text == expected.replace(str(bert), "the given teacher")


def test_a_run_whose_weights_were_damaged_is_not_exported(tmp_path, bert):
    result = distil(bert, out=tmp_path / "out")
    weights = load_file(result.folder / "model/model.safetensors")
    weights["classifier.bias"][0] = math.nan
    save_file(weights, result.folder / "model/model.safetensors", metadata={"format": "pt"})
    assert "model.safetensors: sha256 is" in told(export, result.folder, tmp_path / "exported")
    record = json.loads((result.folder / "run.json").read_text())
    del record["outputs"]  # as in records of earlier versions
    (result.folder / "run.json").write_text(json.dumps(record))
    assert "found NaN or infinite weights in classifier.bias" in told(export, result.folder, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


# Every architecture: its positions, its padding, its token types.


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_positions_are_those_that_the_model_can_read(kind):
    model, expected = classifier(kind), ARCHITECTURES[kind][2]
    assert loading.positions_of(model) == expected
    assert files.facts(model.config.to_dict()).positions == expected
    longest = torch.full((1, expected or 100), 6)
    with torch.no_grad():
        assert model(longest).logits.isfinite().all()
        if expected is not None and kind != "modernbert":  # its rotary positions have no end but that of its training
            with pytest.raises((IndexError, RuntimeError)):
                model(torch.cat([longest, longest[:, :1]], dim=1))


@pytest.mark.parametrize("kind", READS)
def test_a_distilled_model_answers_outside_as_it_did_when_it_was_scored(kind, tmp_path):
    teacher, student = (save(tmp_path / name, kind, seed) for seed, name in enumerate(("teacher", "student")))
    result = distil(teacher, student, test=FRAME)
    exported = result.save(tmp_path / "exported")
    recorded = result.predictions[result.predictions["split"] == "test"]
    assert recorded["logit_good"].nunique() > 1
    classify = pipeline("text-classification", model=str(exported), top_k=None, function_to_apply="none")
    for text, (_, row) in zip(TEXTS, recorded.iterrows(), strict=True):
        found = {entry["label"]: entry["score"] for entry in classify([text], truncation=True)[0]}
        for name in ("bad", "good"):
            assert found[name] == pytest.approx(row[f"logit_{name}"], abs=2e-4)
    FRAME.to_csv(tmp_path / "data.csv", index=False)
    predicted = Classifier(str(exported), text=["text"], device="cpu").predict(tmp_path / "data.csv")
    assert predicted["prediction"].tolist() == recorded["prediction"].tolist()


def test_a_random_roberta_without_a_pad_token_gets_that_of_the_vocabulary(tmp_path):
    fields = classifier("roberta").config.to_dict()
    fields = {key: value for key, value in fields.items() if key not in ("pad_token_id", "vocab_size")}
    (tmp_path / "roberta.json").write_text(json.dumps(fields))
    strange = FRAME.assign(text=[f"{text} \u4e00 zebra" for text in TEXTS])
    result = rkd.distill(
        FRAME, teacher=str(tmp_path / "roberta.json"), student=str(tmp_path / "roberta.json"), text="text",
        method="finetune", test=strange, **QUICK,
    )  # fmt: skip
    assert result.student.config.pad_token_id == result.tokenizer.pad_token_id == 0
    classify = pipeline(
        "text-classification", model=str(result.save(tmp_path / "out")), top_k=None, function_to_apply="none"
    )
    recorded = result.predictions[result.predictions["split"] == "test"]
    for text, expected in zip(strange["text"], recorded["logit_good"], strict=True):
        assert "[UNK]" in result.tokenizer.tokenize(text), "an unknown word is token 1, RoBERTa's own padding"
        found = {entry["label"]: entry["score"] for entry in classify([text], truncation=True)[0]}
        assert found["good"] == pytest.approx(expected, abs=1e-4)
    edit(tmp_path / "roberta.json", pad_token_id=1)
    run = {"student": str(tmp_path / "roberta.json"), "method": "finetune"}
    assert "the pad_token_id in its config is 1; expected 0, the id of the tokenizer's '[PAD]'" in told(
        distil, str(tmp_path / "roberta.json"), **run
    )


def test_a_tokenizer_without_a_pad_token_says_how_to_add_one(tmp_path):
    folder = save(tmp_path / "gpt2", "gpt2")
    edit(folder / "tokenizer_config.json", pad_token=None)
    assert told(distil, folder) == (
        f"the tokenizer of '{folder}' has no pad token; expected one: set tokenizer.pad_token = tokenizer.eos_token, "
        "save the tokenizer, and set pad_token_id in config.json"
    )
    tokenizer("gpt2").save_pretrained(folder)
    edit(folder / "config.json", pad_token_id=None)
    assert f"{folder}: the pad_token_id in its config is None; expected 0" in told(distil, folder)
    assert distil(folder, finetune_teacher=True).student.config.pad_token_id == 0


def test_a_model_that_needs_its_padding_on_the_left_is_refused(tmp_path, table):
    folder = save(tmp_path / "xlnet", "xlnet")
    for text in (told(distil, folder), told(Classifier, str(folder), text=["text"])):
        assert text.startswith(f"{folder}: its logits change by up to ")
        assert text.endswith("(as it stands, xlnet cannot be used: batches are padded on the right)")


def test_pairs_need_a_second_token_type(tmp_path):
    one = save(tmp_path / "one", "bert", type_vocab_size=1)
    both = {"text": ["text", "second"], "method": "kd", **QUICK}
    expected = "found 1 token type (type_vocab_size); expected 2: the tokenizer marks the second text of a pair"
    assert told(rkd.distill, PAIRS, teacher=one, student=one, **both) == f"{one}: {expected}"
    assert told(Classifier, str(one), text=["text", "second"]) == f"{one}: {expected}"
    assert len(distil(one).predictions), "single texts need no second one"
    (tmp_path / "one.json").write_text((one / "config.json").read_text())
    for role in ("teacher", "student"):
        keys = {"teacher_model": "configs/models/bert-4x128.json", f"{role}_model": str(tmp_path / "one.json")}
        problems = load.check(plan_of().config | keys | {"teacher_sha256": None})
        assert any(
            "with type_vocab_size 1; expected at least 2: the examples of rte are pairs" in str(p) for p in problems
        )


def test_a_student_without_token_types_reads_pairs(tmp_path):
    teacher, student = save(tmp_path / "bert", "bert"), save(tmp_path / "distilbert", "distilbert")
    result = rkd.distill(
        PAIRS, teacher=teacher, student=student, text=["text", "second"], method="kd", test=PAIRS, **QUICK
    )
    classify = pipeline(
        "text-classification", model=str(result.save(tmp_path / "out")), top_k=None, function_to_apply="none"
    )
    recorded = result.predictions[result.predictions["split"] == "test"]
    for first, second, expected in zip(PAIRS["text"], PAIRS["second"], recorded["logit_good"], strict=True):
        answers = classify([{"text": first, "text_pair": second}], truncation=True)[0]
        assert {entry["label"]: entry["score"] for entry in answers}["good"] == pytest.approx(expected, abs=2e-4)


def test_layers_are_not_taken_from_an_architecture_that_stacks_them_otherwise(tmp_path):
    folder = save(tmp_path / "gpt2", "gpt2")
    spec = ModelSpec("teacher-layers:1", layers_of=ModelSpec(str(folder)))
    assert "teacher-layers: found a gpt2 teacher; its layers" in told(loading.load, spec, RTE, 257, 1)


def test_missing_layers_of_any_architecture_are_told(tmp_path):
    for kind in ("gpt2", "modernbert", "albert"):
        folder = save(tmp_path / kind, kind)
        weights = load_file(folder / "model.safetensors")
        [lost] = sorted(
            name for name in weights if "attn.c_attn.weight" in name or ".Wqkv." in name or ".query.w" in name
        )[:1]
        del weights[lost]
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        assert f"{lost} is not in the weights" in told(loading.load, ModelSpec(str(folder)), RTE, 60, 1)


# A damaged tokenizer.json.

DAMAGES = {
    "empty": lambda c: b"",
    "no JSON": lambda c: b"{",
    "a list": lambda c: b"[]",
    "null": lambda c: b"null",
    "a number": lambda c: b"7",
    "no UTF-8": lambda c: b"\xff\xfe{}",
    "cut in half": lambda c: json.dumps(c).encode()[: len(json.dumps(c)) // 2],
    "deeply nested": lambda c: b"[" * 100_000,
    "an empty object": lambda c: {},
    "another version": lambda c: c | {"version": "9.0"},
    "no version": lambda c: without(c, "version"),
    **{
        f"no {key}": lambda c, key=key: without(c, key)
        for key in ("model", "added_tokens", "normalizer", "post_processor")
    },
    **{
        f"{key} is {kind}": lambda c, key=key, value=value: c | {key: value}
        for key in ("model", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder")
        for kind, value in (
            ("null", None),
            ("text", "x"),
            ("a list of numbers", [1, 2]),
            ("of no type", {"type": "Mine"}),
        )
    },
    "no vocab": lambda c: c | {"model": without(c["model"], "vocab")},
    "an empty vocab": lambda c: c | {"model": c["model"] | {"vocab": {}}},
    "a vocab of lists": lambda c: c | {"model": c["model"] | {"vocab": [["a"], ["b"]]}},
    "text ids": lambda c: c | {"model": c["model"] | {"vocab": {"a": "0"}}},
    "negative ids": lambda c: c | {"model": c["model"] | {"vocab": {**c["model"]["vocab"], "good": -1}}},
    "huge ids": lambda c: c | {"model": c["model"] | {"vocab": {**c["model"]["vocab"], "good": 2**40}}},
    "ids beyond the embedding": lambda c: c | {"model": c["model"] | {"vocab": {**c["model"]["vocab"], "good": 5000}}},
    "fractional ids": lambda c: c | {"model": c["model"] | {"vocab": {**c["model"]["vocab"], "good": 5.5}}},
    "no unknown token": lambda c: c | {"model": c["model"] | {"unk_token": "[NEVER]"}},
    "another model": lambda c: c | {"model": c["model"] | {"type": "BPE"}},
    "added tokens without ids": lambda c: c | {"added_tokens": [without(t, "id") for t in c["added_tokens"]]},
    "added tokens at other ids": lambda c: c | {"added_tokens": [t | {"id": t["id"] + 9} for t in c["added_tokens"]]},
    "a template without its tokens": lambda c: c | {"post_processor": c["post_processor"] | {"special_tokens": {}}},
}


def without(content, key):
    return {name: value for name, value in content.items() if name != key}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_tokenizer_is_one_error_or_reads_as_it_did(bert, table, damage):
    whole = load_tokenizer(bert)
    content = json.loads((bert / "tokenizer.json").read_text())
    changed = DAMAGES[damage](content)
    (bert / "tokenizer.json").write_bytes(changed if isinstance(changed, bytes) else json.dumps(changed).encode())
    load.check(plan_of().config | {"teacher_model": str(bert)})
    error = None
    try:
        read = Classifier(str(bert), text=["text"], device="cpu").tokenizer
    except RkdError as caught:
        error = str(caught)
    if error is None:  # the class makes this part itself
        assert read.get_vocab() == whole.get_vocab()
        assert read(TEXTS, TEXTS) == whole(TEXTS, TEXTS)
    else:
        assert "\n" not in error
        assert str(bert) in error


# Errors that say what is the matter.


def test_a_classifier_of_other_outputs_is_told_with_both_numbers(tmp_path, bert, table):
    three = save(tmp_path / "three", "bert", id2label={0: "a", 1: "b", 2: "c"})
    text = told(loading.load, ModelSpec(str(three)), RTE, 26, 1)
    assert text == f"{three}: its classifier has 3 outputs; the task has 2 (entailment, not_entailment)"
    text = told(distil, three)
    assert text.startswith(f"teacher {three}: found 3 outputs (a, b, c), the task has 2 (bad, good); expected")
    problems = load.check(plan_of().config | {"teacher_model": str(three), "student_model": "teacher-layers:0"})
    assert any("with a classifier of 3 outputs; expected one with the 2 of rte" in str(problem) for problem in problems)
    edit(three / "config.json", id2label={"0": "bad", "1": "good"}, label2id={"bad": 0, "good": 1})
    assert told(distil, three) == f"{three}: its classifier has 3 outputs; its config.json has 2 (bad, good)"


def test_an_encoder_as_a_finished_teacher_is_told_with_the_way_out(bert):
    BertModel.from_pretrained(bert).save_pretrained(bert)
    assert told(distil, bert) == (
        f"{bert}: found no classifier (classifier.bias is not in the weights); expected a fine-tuned model: fine-tune "
        "it first (rkd distill does with --finetune-teacher)"
    )


def test_a_trainers_folder_names_its_newest_checkpoint(tmp_path):
    for step in (90, 500, 1000):
        save(tmp_path / "trainer" / f"checkpoint-{step}", "bert")
    (tmp_path / "trainer" / "checkpoint-2000").mkdir()
    newest = tmp_path / "trainer" / "checkpoint-1000"
    assert told(loading.load_finetuned, tmp_path / "trainer").endswith(f"; give its newest checkpoint, {newest}")
    assert told(parse(str(tmp_path / "trainer")).read_config).endswith(f"left checkpoints here: give {newest}")
    assert told(distil, tmp_path / "trainer").endswith(str(newest))


def test_a_model_in_memory_is_checked_like_a_folder(tmp_path):
    good = classifier("bert")
    assert told(distil, good) == "tokenizer: found none; expected the teacher's, as the teacher is given as a model"
    assert len(distil(good, classifier("bert", 1, num_hidden_layers=1), tokenizer=tokenizer("bert")).predictions)
    small = classifier("bert", vocab_size=20)
    text = told(distil, small, tokenizer=tokenizer("bert"))
    assert text == "the given teacher: its embedding has 20 tokens; the data's vocabulary has 26"
    text = told(distil, good, small, tokenizer=tokenizer("bert"))
    assert text == "the given student: its embedding has 20 tokens; the data's vocabulary has 26"
    short = classifier("bert", max_position_embeddings=8)
    text = told(distil, good, short, tokenizer=tokenizer("bert"))
    assert text == "max_length: found 16; expected at most 8, the positions of the given student"
