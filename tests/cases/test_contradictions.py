"""Tokenizers, configs of models and labels that say two things, and texts that are longer than what is read."""

import json
import logging

import pandas as pd
import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer, pipeline
from transformers.utils import logging as transformers_logging

import rkd
from rkd.cli import main
from rkd.config.load import check, load
from rkd.data.files import find_labels, read_split
from rkd.data.prepare import encode, prepare
from rkd.errors import RkdError
from rkd.export import export
from rkd.inference import Classifier
from rkd.labels import check_names, label_name
from rkd.models import files
from rkd.models.loading import load_finetuned
from rkd.models.tokenizer import load_tokenizer, shortest
from rkd.tasks import define, get
from rkd.training import job
from tests.helpers.architectures import classifier, save, tokenizer
from tests.helpers.commands import told
from tests.helpers.configs import edit, plan_of
from tests.helpers.distillation import FRAME, QUICK, distil

LONG = "a good film and so is the text that was so bad " * 2
COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


@pytest.fixture
def bert(tmp_path):
    """A fine-tuned classifier with its tokenizer."""
    return save(tmp_path / "bert", "bert")


@pytest.fixture
def library_says():
    """What transformers logs, as in a new process: earlier trainings have made it quiet."""
    logger, verbosity, messages = logging.getLogger("transformers"), transformers_logging.get_verbosity(), []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger.addHandler(handler)
    transformers_logging.set_verbosity_warning()
    yield messages
    transformers_logging.set_verbosity(verbosity)
    logger.removeHandler(handler)


def table(path, texts, labels):
    pd.DataFrame({"text": texts, "label": labels}).to_csv(path, index=False)
    return path


# Texts that are truncated.


def test_one_line_says_how_many_texts_are_cut(tmp_path, bert, caplog):
    file = table(tmp_path / "new.csv", ["a good film", LONG, LONG, "bad"], ["good", "good", "bad", "bad"])
    model = Classifier(bert, "text", "label")
    expected = f"texts are truncated at their end to 32 tokens: 0 of 4 rows in {file}"
    long = table(tmp_path / "long.csv", ["a good film", LONG * 2, LONG * 2, "bad"], ["good", "good", "bad", "bad"])
    for call in (model.predict, model.evaluate):
        caplog.clear()
        call(file)
        assert not caplog.messages, "all are read whole"
        call(long)
        assert caplog.messages == [expected.replace("0 of 4", "2 of 4").replace(str(file), str(long))]


def test_the_count_is_of_rows_that_lose_tokens_and_not_of_those_that_just_fit():
    reader = tokenizer("bert")
    rows = Dataset.from_dict({"text": ["good " * n for n in range(1, 11)], "label": [0] * 10, "idx": list(range(10))})
    logger, messages = logging.getLogger("rkd.data.prepare"), []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger.addHandler(handler)
    try:
        kept = encode({"train": rows, "dev": rows.select(range(6))}, reader, ["text"], 8)
    finally:
        logger.removeHandler(handler)
    assert messages == ["texts are truncated at their end to 8 tokens: 4 of 10 rows in train, 0 of 6 rows in dev"]
    assert [len(ids) for ids in kept["train"]["input_ids"]] == [3, 4, 5, 6, 7, 8, 8, 8, 8, 8]
    assert sorted(kept["train"].column_names) == ["idx", "input_ids", "label", "token_type_ids"]


def test_preparing_says_how_many_rows_are_cut(tmp_path, caplog):
    files = {}
    for split, texts in {"train": [LONG] * 3 + ["bad"] * 3, "validation": ["good", LONG]}.items():
        labels = ["good", "bad"] * (len(texts) // 2)
        files[split] = {"path": str(table(tmp_path / f"{split}.csv", texts, labels))}
    rows = [pd.read_csv(file["path"]) for file in files.values()]
    rkd.distill(
        rows[0], dev=rows[1], teacher=save(tmp_path / "teacher", "bert"), student="teacher-layers:1", method="kd",
        text="text", **{**QUICK, "max_length": 8},
    )  # fmt: skip
    truncated = [line for line in caplog.messages if "truncated" in line]
    assert truncated == [
        "texts are truncated at their end to 8 tokens: 3 of 6 rows in train, 1 of 2 rows in validation"
    ]


def test_the_side_of_the_cut_is_the_tokenizers_own_in_training_predictions_and_the_export(tmp_path, bert, caplog):
    edit(bert / "tokenizer_config.json", truncation_side="left")
    texts = [f"{LONG} {word}" for word in ("good", "bad")] * 6
    frame = pd.DataFrame({"text": texts, "label": ["good", "bad"] * 6})
    result = rkd.distill(
        frame, dev=frame, teacher=bert, student=bert, text="text", method="kd", out=tmp_path / "out",
        **{**QUICK, "max_length": 8},
    )  # fmt: skip
    assert [line for line in caplog.messages if "truncated" in line] == [
        "texts are truncated at their start to 8 tokens: 12 of 12 rows in train, 12 of 12 rows in validation"
    ]
    trained = result.predictions[["logit_bad", "logit_good"]].to_numpy()
    assert abs(trained[0] - trained[1]).max() > 1e-3, "the last word is read"
    frame.to_csv(tmp_path / "new.csv", index=False)
    caplog.clear()
    found = Classifier(result.folder).predict(tmp_path / "new.csv")
    assert "truncated at their start to 8 tokens: 12 of 12" in caplog.text
    folder = export(result.folder, tmp_path / "exported")
    assert (
        "- Texts are truncated at their start to 8 tokens, by a pipeline only with"
        in (folder / "README.md").read_text()
    )
    outside = pipeline("text-classification", model=str(folder), truncation=True, top_k=None)(texts)
    shares = torch.tensor(trained).softmax(dim=-1)
    for row, answer in enumerate(outside):
        answers = {each["label"]: each["score"] for each in answer}
        assert [answers["bad"], answers["good"]] == pytest.approx(shares[row].tolist(), abs=1e-5)
        assert found.loc[row, ["p_bad", "p_good"]].tolist() == pytest.approx(shares[row].tolist(), abs=1e-5)


def test_a_tokenizer_that_pads_on_the_left_is_refused(tmp_path, bert):
    edit(bert / "tokenizer_config.json", padding_side="left")
    expected = (
        f"{bert}: its tokenizer has padding_side 'left'; expected 'right', as batches are padded here: set "
        "tokenizer.padding_side = 'right' and save the tokenizer"
    )
    assert told(Classifier, bert, "text") == expected
    assert told(distil, bert) == expected
    assert told(distil, bert, finetune_teacher=True).endswith(expected)
    given = tokenizer("bert")
    given.padding_side = "left"  # the library does not write what is set on the object
    for tuned in (False, True):
        text = told(distil, classifier("bert"), "teacher-layers:0", tokenizer=given, finetune_teacher=tuned)
        assert expected.replace(str(bert), "the given teacher") in text


@pytest.mark.parametrize("value", [0, 4, -1, 1.5, "512", True, [8]])
def test_a_model_max_length_without_room_for_a_pair_is_refused(bert, value):
    edit(bert / "tokenizer_config.json", model_max_length=value)
    expected = (
        f"the tokenizer of '{bert}': found model_max_length {value!r}; expected a whole number, at least 5: the "
        "special tokens of a pair and one token of each text"
    )
    for call in (load_tokenizer, lambda folder: Classifier(folder, "text"), distil):
        assert told(call, bert) == expected


@pytest.mark.parametrize("value", [5, 512.0, 1e30, None, 10**30])
def test_any_other_model_max_length_is_taken(bert, value):
    edit(bert / "tokenizer_config.json", model_max_length=value)
    found = load_tokenizer(bert).model_max_length
    assert isinstance(found, int)
    assert found == (int(value) if value is not None else AutoTokenizer.from_pretrained(bert).model_max_length)


@pytest.mark.parametrize(("kind", "least"), [("bert", 5), ("roberta", 6), ("gpt2", 2)])
def test_the_shortest_pair_is_what_the_tokenizer_makes_of_it(kind, least):
    reader = tokenizer(kind)
    assert shortest(reader) == least
    assert len(reader("a", "a")["input_ids"]) == least


def test_lengths_without_room_for_a_pair_are_refused(tmp_path):
    small = save(tmp_path / "small", "bert", max_position_embeddings=4)
    assert told(Classifier, small, "text").startswith(f"{small}: reads 4 tokens at most; expected at least 5: ")
    text = told(prepare, "rte", tmp_path / "rte", source="synthetic", tokenizer=str(save(tmp_path / "bert", "bert")),
                max_length=4)  # fmt: skip
    assert text.startswith("max_length: found 4; expected 5 to ")


def test_a_healthy_run_of_short_texts_warns_of_nothing(tmp_path, bert, library_says, monkeypatch):
    monkeypatch.setattr(job, "quiet_transformers", lambda: None)
    edit(bert / "tokenizer_config.json", model_max_length=8)
    file = table(tmp_path / "data.csv", FRAME["text"], FRAME["label"])
    Classifier(bert, "text", "label").evaluate(file)
    distil(bert, max_length=8, out=tmp_path / "out")
    export(tmp_path / "out/student", tmp_path / "exported")
    assert library_says == []


def test_the_side_that_was_set_on_a_tokenizer_in_memory_counts(caplog):
    given = tokenizer("bert")
    given.truncation_side = "left"
    result = distil(classifier("bert"), "teacher-layers:0", tokenizer=given, max_length=8)
    assert "texts are truncated at their start to 8 tokens" in caplog.text
    assert result.tokenizer.truncation_side == "left"


# Weights that do not fit.


def test_weights_that_do_not_fit_are_told_in_one_line(bert, library_says, capfd):
    edit(bert / "config.json", hidden_size=32)
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(bert), str(table(bert / "new.csv", ["good"], ["good"])), "--text", "text"])
    err = capfd.readouterr().err
    assert ended.value.code == 2
    assert err.startswith(f"error: {bert}: its weights are not those of the model in its config.json: ")
    assert err.count("\n") == 1
    assert library_says == []


# Configs of classifiers.


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        (
            {"problem_type": "multi_label_classification", "id2label": {"0": "score"}, "label2id": None},
            "found problem_type 'multi_label_classification' with 1 outputs; expected regression",
        ),
        (
            {"problem_type": "regression"},
            "found problem_type 'regression' with 2 outputs; expected single_label_classification or "
            "multi_label_classification",
        ),
        (
            {"id2label": {"1": "bad", "2": "good"}, "label2id": None},
            "found the keys '1', '2' in id2label; expected a name for every output, 0, 1, …",
        ),
        (
            {"id2label": {"0": "bad", "x": "good"}},
            "found the keys '0', 'x' in id2label; expected a name for every output, 0, 1, …",
        ),
        ({"id2label": ["bad", "good"]}, "found ['bad', 'good'] in id2label; expected a name for every output, 0, 1, …"),
        ({"id2label": {}}, "found {} in id2label; expected a name for every output, 0, 1, …"),
        ({"id2label": {"0": ["bad"], "1": "good"}}, "found ['bad'] for 0 in id2label; expected a name"),
        (
            {"label2id": {"good": 0, "bad": 1}},
            "found label2id {'good': 0, 'bad': 1}; expected {'bad': 0, 'good': 1}, as id2label has it",
        ),
        (
            {"label2id": {"bad": 0, "fine": 1}},
            "found label2id {'bad': 0, 'fine': 1}; expected {'bad': 0, 'good': 1}, as id2label has it",
        ),
        (
            {"id2label": None, "label2id": {"bad": 0, "good": 1}},
            "found label2id {'bad': 0, 'good': 1}; expected {'LABEL_0': 0, 'LABEL_1': 1}, or id2label beside it",
        ),
        ({"num_labels": 3}, "found num_labels 3; expected 2, as id2label has it"),
        (
            {"architectures": ["BertForTokenClassification"]},
            "found BertForTokenClassification in architectures; expected a classifier of whole texts",
        ),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(bert, fields, found):
    edit(bert / "config.json", **fields)
    assert told(load_finetuned, bert) == f"{bert}/config.json: {found}"
    assert told(Classifier, bert, "text") == f"{bert}/config.json: {found}"
    assert told(distil, bert) == f"{bert}/config.json: {found}"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"id2label": {"0": "bad", "1": "good"}, "label2id": {"good": 1, "bad": 0}, "num_labels": 2},
        {"id2label": {"1": "good", "0": "bad"}, "label2id": {"bad": "0", "good": "1"}},
        {"id2label": {"0": "bad", "1": "good"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}},
        {"id2label": {"0": False, "1": True}, "label2id": {"false": 0, "true": 1}},
        {"label2id": {"LABEL_0": 0, "LABEL_1": 1}, "problem_type": "single_label_classification"},
        {"id2label": {"0": "score"}, "label2id": {"score": 0}, "problem_type": "regression"},
        {"num_labels": 1, "problem_type": "regression"},
        {"num_labels": 3, "problem_type": "multi_label_classification"},
        {"num_labels": 3, "label2id": {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}},
        {"architectures": ["MyModelForSequenceClassification"], "id2label": {str(n): f"c{n}" for n in range(12)}},
    ],
)
def test_a_config_that_says_one_thing_is_taken(fields):
    files.check_classes(fields, "config.json")


def test_what_the_config_of_a_pretrained_model_says_of_classes_does_not_matter(bert):
    edit(bert / "config.json", problem_type="multi_label_classification", label2id={"x": 0})
    result = distil(bert, finetune_teacher=True)
    assert result.student.config.label2id == {"bad": 0, "good": 1}


# Labels.


def labels_of(tmp_path, *values):
    return find_labels({"path": str(table(tmp_path / "data.csv", ["a"] * len(values), values))}, "label")


def test_normal_forms_of_a_label_are_one(tmp_path):
    assert labels_of(tmp_path, COMPOSED, DECOMPOSED, "tea") == [COMPOSED, "tea"]
    assert label_name(DECOMPOSED) == COMPOSED
    entry = {"train": "x", "text": ["text"], "label": "label", "labels": ["tea", DECOMPOSED], "test": None,
             "metrics": ["accuracy"], "primary_metrics": ["accuracy"], "title": "Drinks"}  # fmt: skip
    rows = read_split(get("drinks", define(entry)), "validation", {"path": str(tmp_path / "data.csv")}, None)
    assert rows["label"][:] == [1, 1, 0]
    with pytest.raises(RkdError, match="which are one label"):
        check_names("labels", [COMPOSED, DECOMPOSED])


@pytest.mark.parametrize("hidden", ["\u200b", "\ufeff", "\u00ad", "\u200e", "\u2060", "\ufe0f"])
def test_labels_that_differ_in_invisible_characters_alone_are_refused(tmp_path, hidden):
    for other in (f"good{hidden}", f"{hidden}good", f"go{hidden}od"):
        expected = f"found 'good' and {other!a}, which differ in invisible characters alone; expected different ones"
        with pytest.raises(RkdError, match="invisible") as caught:
            labels_of(tmp_path, *sorted(["good", other, "bad"]))
        ours, theirs = sorted(["good", other])
        assert str(caught.value) == (
            f"{tmp_path / 'data.csv'}, column 'label': found {ours!a} and {theirs!a}, which differ in invisible "
            "characters alone; expected different ones"
        )
        assert told(distil, "configs/models/bert-2x128.json", labels=["good", other], finetune_teacher=True) == (
            f"labels: {expected}"
        )
    problems = check({**plan_of().config, "custom_tasks": {"mine": custom_task(tmp_path, ["good", f"good{hidden}"])}})
    assert any("every label only once" in str(each) for each in problems)


def custom_task(tmp_path, labels):
    file = str(table(tmp_path / "own.csv", ["a", "b"], ["good", "bad"]))
    return {"train": file, "dev": file, "text": "text", "label": "label", "labels": labels}


def test_a_label_of_invisible_characters_is_none(tmp_path):
    with pytest.raises(RkdError, match=r"row 2, column 'label': found nothing; expected a label"):
        labels_of(tmp_path, "good", "\u200b", "bad")


def test_flags_that_invisible_characters_tell_apart_are_different_labels(tmp_path):
    flags = ["\U0001f3f4" + "".join(chr(0xE0000 + ord(c)) for c in code) + "\U000e007f" for code in ("gbeng", "gbsct")]
    assert labels_of(tmp_path, *flags) == flags


def test_labels_that_differ_in_case_width_or_blanks_alone_are_warned_about(tmp_path, caplog):
    assert len(labels_of(tmp_path, "good", "Good", "1", "\uff11", "very good", "very  good", "bad")) == 7
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line == (
        f"{tmp_path / 'data.csv'}, column 'label': nearly the same, but treated as different labels: "
        "'1' and '\uff11', 'Good' and 'good', 'very  good' and 'very good'"
    )


# Layer maps.


def test_errors_about_layer_maps_say_that_a_list_may_be_empty():
    settings = json.loads(json.dumps(plan_of().config)) | {"teacher_model": "configs/models/bert-4x128.json"}
    student = {**settings["student"], "layer_map": [[], [3]]}
    variants = {"reptile": {"method": "reptile"}}
    load({**settings, "student": student, "variants": variants, "teacher_sha256": None})
    for wrong in ([[0]], "middle"):
        problems = check({**settings, "student": {**student, "layer_map": wrong}, "variants": variants})
        assert any("empty" in str(each) and "mapped to none" in str(each) for each in problems), problems
