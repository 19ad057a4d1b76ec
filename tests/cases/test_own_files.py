"""Traps of a user's own files: quotes, spreadsheets, columns that are told late, rare labels, metrics of a run."""

import json
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from rkd.cli import main
from rkd.config import arguments, load
from rkd.data.files import find_labels, read_split
from rkd.data.prepare import prepare
from rkd.data.reading import check_columns
from rkd.distillation.request import Request
from rkd.errors import RkdError
from rkd.inference import Classifier
from rkd.runs.metrics import metrics_of
from rkd.tasks import define, get
from rkd.verify import CHANGED, MISMATCH, UNCHECKED, verify
from tests.helpers import ROOT, TIMEOUT

MODELS = ROOT / "configs/models"
ENTRY = {
    "text": ["text"],
    "label": "mood",
    "primary_metrics": ["accuracy"],
    "metrics": ["accuracy"],
    "title": "M",
    "test": None,
}


def moods(*labels: str) -> Any:
    metrics = ["accuracy"] if labels else ["pearson"]
    return get("moods", define({**ENTRY, "labels": list(labels), "metrics": metrics, "primary_metrics": metrics}))


def error_of(call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(RkdError) as error:
        call(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- quotes in TSV --------------------------------------------------------------------------------------------


def test_texts_and_labels_that_are_all_in_quotes_are_a_warning(tmp_path, caplog):
    frame = pd.DataFrame({"text": ["good tea", "bad tea"] * 10, "mood": ["good", "bad"] * 10})
    path = tmp_path / "q.tsv"
    frame.to_csv(path, sep="\t", index=False, quoting=1)
    path.write_text(path.read_text().replace('"text"\t"mood"', "text\tmood"))
    file = {"path": str(path)}
    labels = find_labels(file, "mood")
    assert labels == ['"bad"', '"good"']
    read_split(moods(*labels), "train", file, None)
    for what in ("column 'mood': 20 labels", "column 'text': 20 texts"):
        assert f"{what} are quoted as in CSV, the first in row 1; in .tsv quotes are part of the text" in caplog.text
    found = error_of(read_split, moods("good", "bad"), "train", file, None)
    hint = "quotes in a .tsv file are part of its fields"
    assert found.endswith(f"found '\"good\"'; expected one of the labels good, bad; {hint}")


def test_some_quotations_are_no_warning(tmp_path, caplog):
    path = tmp_path / "q.tsv"
    path.write_text("text\tmood\n" + '"Good tea!"\tgood\nbad tea\tbad\n' * 10)
    read_split(moods("good", "bad"), "train", {"path": str(path)}, None)
    assert "quoted" not in caplog.text


# --- spreadsheets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", "sep=,\ntext,mood\na,bad\n", ": line 1 is Excel's 'sep='; expected the columns' names: remove it"),
        ("a.csv", "sep=;\ntext;mood\na;bad\n", ": line 1 is Excel's 'sep=;'; expected the columns' names: remove it"),
        ("a.csv", "id, text ,Mood\n1,a,bad\n", ": columns 'text', 'mood' are missing; found 'id', ' text ', 'Mood'; "
            "did you mean ' text ', 'Mood'?"),
        ("a.csv", "text,moods\na,bad\n", ": column 'mood' is missing; found 'text', 'moods'; did you mean 'moods'?"),
        ("a.csv", "text,x\na,bad\n", ": column 'mood' is missing; found 'text', 'x'"),
        ("a.csv", "text,mood\na,bad\n,\n,\n", ", row 2, column 'mood': found nothing, the whole row is empty (2 rows "
            "have none); expected one of the labels good, bad"),
        ("a.tsv", "text\tmood\nb\t\n", ", row 1, column 'mood': found nothing; expected one of the labels good, bad"),
        ("a.jsonl", '[\n{"text": "a", "mood": "bad"}\n]\n', ": found a JSON array over several lines; expected one "
            'object per line, such as {"text": "…", "label": "…"}'),
        ("a.jsonl", '[{"text": "a", "mood": "bad"}]', ", row 1: found a JSON array; expected one object per line, such "
            'as {"text": "…", "label": "…"}'),
    ],
)  # fmt: skip
def test_traps_of_spreadsheets_are_told(tmp_path, name, content, problem):
    path = tmp_path / name
    path.write_text(content)
    assert error_of(read_split, moods("good", "bad"), "train", {"path": str(path)}, None) == f"{path}{problem}"


def test_a_decimal_comma_is_told(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text,mood\na,"-2,5"\n')
    found = error_of(read_split, moods(), "train", {"path": str(path)}, "any")
    assert found == f"{path}, row 1, column 'mood': found '-2,5'; expected a number: write -2.5"


# --- columns before anything heavy ----------------------------------------------------------------------------


def test_the_columns_of_all_files_are_told_at_once_and_early(tmp_path):
    for name, columns in {"data": "Text,mood", "dev": "text,label", "test": "words"}.items():
        (tmp_path / f"{name}.csv").write_text(f"{columns}\n")
    tables = {name: str(tmp_path / f"{name}.csv") for name in ("data", "dev", "test")}
    model = str(MODELS / "bert-2x128.json")
    command = ["distill", "--finetune-teacher", "--teacher", model, "--student", model, "--text", "text"]
    command += ["--label", "mood", "--out", str(tmp_path / "out")]
    command += [part for name, path in tables.items() for part in (f"--{name}", path)]
    code = (
        "import json, sys\nfrom rkd.cli import main\n"
        "try: main(json.load(sys.stdin))\n"
        "finally: assert not {'torch', 'pandas', 'transformers', 'datasets'} & set(sys.modules)\n"
    )
    end = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(command),
        text=True,
        capture_output=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert (end.returncode, end.stderr) == (
        2,
        f"error: --data: {tables['data']}: column 'text' is missing; found 'Text', 'mood'; did you mean 'Text'?; "
        f"--dev: {tables['dev']}: column 'mood' is missing; found 'text', 'label'; "
        f"--test: {tables['test']}: column 'text' is missing; found 'words'\n",
    )
    assert not (tmp_path / "out").exists()


def test_a_test_file_needs_no_labels_and_late_keys_of_json_lines_are_columns(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n{"text": "b", "mood": "bad"}\n')
    (tmp_path / "test.csv").write_text("text\na\n")
    model = str(MODELS / "bert-2x128.json")
    Request(
        data=tmp_path / "train.jsonl", test=tmp_path / "test.csv", teacher=model, student=model, text="text",
        label="mood", finetune_teacher=True,
    )  # fmt: skip


def custom_tasks(folder: Path, name: str, content: str, **more: Any) -> dict[str, Any]:
    (folder / "good.csv").write_text("text,mood\na,good\n")
    (folder / name).write_text(content)
    shared = {"text": ["text"], "label": "mood", "labels": ["good", "bad"]}
    entries = {"fine": {**shared, "train": str(folder / "good.csv")}, "wrong": {**shared, "train": str(folder / name)}}
    base = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    return {**base, "tasks": ["fine", "wrong"], "ablations": {}, "custom_tasks": entries, **more}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("b.csv", "text,Mood\n", "column 'mood' is missing; found 'text', 'Mood'; did you mean 'Mood'?"),
        ("b.tsv", "text\tmood\tmood\n", "column 'mood' occurs 2 times; expected once"),
        ("b.jsonl", '{"text": "a"}\n', "column 'mood' is missing; found 'text'"),
        ("b.csv", "", "the file is empty; expected a line with the columns' names"),
        ("b.csv", "te\0xt,mood\n", "line 1: found a NUL byte, as in UTF-16; expected UTF-8 text"),
        ("b.parquet", "PAR1", "cannot be read as Parquet: "),
    ],
)
def test_the_config_check_reads_the_columns_of_the_tasks_that_run(tmp_path, monkeypatch, name, content, reason):
    monkeypatch.chdir(ROOT)
    found = load.check(custom_tasks(tmp_path, name, content))
    assert [problem.path for problem in found] == ["custom_tasks.wrong.train"]
    assert found[0].found == f"'{tmp_path / name}' (text)"
    assert found[0].suggestion.startswith(reason)
    assert load.check(custom_tasks(tmp_path, name, content, tasks=["fine"])) == []


def test_the_config_check_reads_a_header_once_and_no_more(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    seen = []

    def counted(place, *given):
        seen.append(place)
        check_columns(place, *given)

    monkeypatch.setattr("rkd.config.custom_tasks.check_columns", counted)
    content = custom_tasks(tmp_path, "b.csv", "text,mood\n" + "a,bad\n" * 1_000_000)
    model = {"method": "kd", "student_model": content["student_model"]}
    started = time.perf_counter()
    assert load.check({**content, "variants": {**content["variants"], "a": model, "b": model}}) == []
    assert time.perf_counter() - started < 2
    assert sorted(seen) == [tmp_path / "b.csv", tmp_path / "good.csv"]
    (tmp_path / "b.csv").write_text("text,label\na,bad\n")  # read anew in the same process
    assert [problem.path for problem in load.check(content)] == ["custom_tasks.wrong.train"]


# --- rare labels ----------------------------------------------------------------------------------------------


def prepared(tmp_path: Path, rows: list[tuple[str, str]], labels: list[str], dev: str | None = None) -> None:
    (tmp_path / "a.csv").write_text("text,mood\n" + "".join(f"{text},{label}\n" for text, label in rows))
    files = {"train": {"path": str(tmp_path / "a.csv")}}
    if dev is not None:
        (tmp_path / "dev.csv").write_text(f"text,mood\n{dev}")
        files["validation"] = {"path": str(tmp_path / "dev.csv")}
    own = {**define({**ENTRY, "labels": labels}), "files": files, "scores": None, "dev_fraction": 0.5, "dev_seed": 0}
    tokenizer = str(MODELS / "bert-2x128.json")
    prepare(
        "moods", tmp_path / "out", source="files", tokenizer=tokenizer, vocab_size=100, max_length=16, custom_task=own
    )


def test_a_label_that_the_split_takes_from_train_is_told(tmp_path, caplog):
    rows = [(f"text {number}", "good" if number % 2 else "bad") for number in range(20)]
    labels = ["bad", "good", "never", *(f"rare{number}" for number in range(8))]
    with caplog.at_level(logging.WARNING):
        prepared(tmp_path, [*rows, *((f"other {label}", label) for label in labels[3:])], labels)
    train, dev = (line for line in caplog.messages if "never occur" in line)
    before, moved = train.split("; all rows of ")
    assert "'never'" in before
    assert moved.endswith(" are held out for dev: give a dev file")
    lost, kept = ({label for label in labels[3:] if f"'{label}'" in text} for text in (moved, dev))
    assert lost
    assert lost | kept == set(labels[3:])
    assert not lost & kept
    assert dev.startswith(f"validation: {len(kept) + 1} of 11 labels never occur: 'never', ")


def test_labels_that_a_dev_file_lacks_are_one_warning(tmp_path, caplog):
    rows = [("one", "good"), ("two", "bad"), ("three", "odd")]
    prepared(tmp_path, rows, ["good", "bad", "odd"], dev="four,good\n")
    assert [line for line in caplog.messages if "never occur" in line] == [
        "validation: 2 of 3 labels never occur: 'bad', 'odd'"
    ]


# --- what rkd distill wrote -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distilled")
    rows = [(f"the {word} tea {number}", mood) for number in range(20) for word, mood in (("fine", "1"), ("bad", "0"))]
    pd.DataFrame(rows, columns=["text", "mood"]).to_csv(folder / "a.csv", index=False)
    command = ["distill", "--finetune-teacher", "--method", "kd", "--text", "text", "--label", "mood", "-s", "epochs=1"]
    options = {"--teacher": MODELS / "bert-4x128.json", "--student": MODELS / "bert-2x128.json", "--threads": 1}
    options |= {"--data": folder / "a.csv", "--out": folder / "out", "--max-length": 16, "--vocab-size": 150}
    command += [str(part) for pair in options.items() for part in pair]
    with pytest.raises(SystemExit) as end:
        main([*command, "--metric", "accuracy", "--metric", "f1", "--device", "cpu"])
    assert end.value.code in (0, None)
    return folder


def test_a_distillation_is_verified_as_a_whole(distilled):
    for path in (distilled, distilled / "out", distilled / "out/student", distilled / "out/data/manifest.json"):
        checked = verify([path])
        assert str(checked) == "verified 1 distillation: no mismatch"


def test_every_changed_deleted_or_added_file_of_a_distillation_is_found(distilled):
    out = distilled / "out"
    for file in [file for part in ("data", "teacher", "student") for file in (out / part).rglob("*") if file.is_file()]:
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if content else b"x")
        assert verify([out]).mismatches, file
        file.unlink()
        # Published results leave weights, predictions and prepared data out, each as a whole.
        assert {one.kind for one in verify([out]).findings} & {MISMATCH, UNCHECKED}, file
        file.write_bytes(content)
        added = file.with_name("added.txt")
        added.write_text("")
        assert any(str(added).endswith(one.file) or one.file == str(added) for one in verify([out]).mismatches), added
        added.unlink()
    assert not verify([out]).findings


def test_a_teacher_without_a_record_is_verified_by_that_of_its_student(distilled):
    record = distilled / "out/teacher/run.json"
    content = {file: (distilled / "out/teacher" / file).read_bytes() for file in
               ("run.json", "history.jsonl", "predictions.parquet", "logits.parquet", "model/config.json")}  # fmt: skip
    for file in ("run.json", "history.jsonl", "predictions.parquet", "logits.parquet"):
        record.with_name(file).unlink()
    assert not verify([distilled]).findings
    (record.parent / "model/config.json").write_text("{}")
    assert [Path(one.file).name for one in verify([distilled]).mismatches] == ["config.json"]
    for file, before in content.items():
        (record.parent / file).write_bytes(before)
    assert not verify([distilled]).findings


def test_another_training_file_is_no_contradiction(distilled):
    file = distilled / "a.csv"
    content = file.read_bytes()
    file.write_bytes(content + b"more,1\n")
    [found] = verify([distilled]).findings
    assert (found.kind, Path(found.file).name) == (CHANGED, "a.csv")
    file.write_bytes(content)


def test_predict_and_evaluate_tell_columns_early(distilled):
    file = distilled / "words.csv"
    file.write_text("words,moods\na,1\n")
    run = distilled / "out/student"
    problem = f"file: {file}: columns 'text', 'mood' are missing; found 'words', 'moods'; did you mean 'moods'?"
    assert error_of(arguments.check_classifier, run, file=file, labelled=True) == problem
    problem = f"file: {file}: column 'text' is missing; found 'words', 'moods'"
    assert error_of(arguments.check_classifier, run, file=file) == problem
    arguments.check_classifier(run, "words", "moods", file=file, labelled=True)


def test_evaluate_tells_all_metrics_of_the_run_s_task(distilled, capsys):
    run = distilled / "out/student"
    with pytest.raises(SystemExit):
        main(["evaluate", str(run), str(distilled / "a.csv"), "--json", "--device", "cpu"])
    assert json.loads(capsys.readouterr().out).keys() == {"accuracy", "f1", "rows", "classes", "confusion"}
    assert Classifier(run, device="cpu").evaluate(distilled / "a.csv", ["macro_f1"]).keys() == {"macro_f1", "rows"}


def test_the_metrics_of_a_run_are_those_of_its_task(tmp_path):
    run = tmp_path / "students/mrpc/kd/seed-1"
    spec = {"task": "mrpc", "variant": "kd", "method": "kd", "seed": 1, "model": {"source": "x"}, "training": {}}
    (run / "model").mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"spec": {**spec, "options": {}}}))
    assert metrics_of(run) == metrics_of(run / "model") == ["accuracy", "f1"]
    assert metrics_of(tmp_path) == []
    own = define({**ENTRY, "labels": ["0", "1"], "metrics": ["accuracy", "f1"]})
    scored = tmp_path / "metrics/moods/kd/seed-1.json"
    run = tmp_path / "students/moods/kd/seed-1"
    (run / "model").mkdir(parents=True)
    primary_score = {**own, "metrics": ["accuracy"]}
    (run / "run.json").write_text(
        json.dumps({"spec": {**spec, "task": "moods", "options": {}, "custom_task": primary_score}})
    )
    assert metrics_of(run) == ["accuracy"]
    scored.parent.mkdir(parents=True)
    scored.write_text(json.dumps({"custom_task": own}))
    assert metrics_of(run) == ["accuracy", "f1"]
