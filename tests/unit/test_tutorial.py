"""Every command of the tutorial, one after the other, on a small file and small models."""

import re
import shlex

import pytest

from rkd.cli import main
from tests.helpers import ROOT
from tests.helpers.distillation import MODELS, reviews

PAGE = ROOT / "docs" / "tutorial.md"
# The tutorial's models come from the hub.
SMALL = {
    "sentence-transformers/all-MiniLM-L6-v2": str(MODELS / "bert-4x128.json"),
    "sentence-transformers/paraphrase-MiniLM-L3-v2": str(MODELS / "bert-2x128.json"),
}


def test_every_command_of_the_tutorial_runs(tmp_path, monkeypatch, capsys):
    for package in ("onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason="needs the extra onnx")
    for name, rows in {"reviews": 120, "test": 40, "new": 10}.items():
        reviews(rows, len(name)).rename(columns={"text": "review"}).to_csv(tmp_path / f"{name}.csv", index=False)
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(console|python)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ran = []
    for language, block in blocks:
        if language == "python":
            exec(compile(block, str(PAGE), "exec"), {})
            continue
        for command in re.findall(r"^\$ (rkd .*)$", block.replace("\\\n", " "), re.MULTILINE):
            _, *words = shlex.split(command)
            with pytest.raises(SystemExit) as end:
                main([SMALL.get(word, word) for word in words])
            assert not end.value.code, command
            ran.append(words[0])
    assert set(ran) == {"distill", "evaluate", "predict", "export", "benchmark"}
    assert (tmp_path / "answers.csv").read_text().startswith("review,mood,prediction,p_bad,p_good\n")
    assert "good" in capsys.readouterr().out
