"""What a new user does first: a distillation on a file, its answers and its export; slips are told as such."""

import re

import pandas as pd
import pytest

import rkd
from rkd.export import export
from rkd.inference import Classifier
from tests.unit.test_library import TINY, reviews


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with a finished distillation in out/, scored by accuracy and f1; no test may change it."""
    folder = tmp_path_factory.mktemp("project")
    rkd.distill(
        reviews(40), dev=reviews(20, 1), out=folder / "out", scored_by=["accuracy", "f1"], max_length=16, **TINY
    )
    return folder


def test_the_code_on_the_model_card_answers_long_texts_as_predict_does(project, tmp_path, monkeypatch, capsys):
    """Texts of more tokens than the training read, and of more than the model has positions for."""
    monkeypatch.chdir(tmp_path)
    card = (export(project / "out/student", "exported") / "README.md").read_text()
    code = re.search("```python\n(.*?)```", card, re.DOTALL)[1].replace('"…"', "texts")
    texts = ["a good film " + "bad " * words for words in (2, 30, 2000)]
    found = {"texts": texts}
    exec(code.replace("print(", "answers = (").replace("classify(texts)", "classify(texts, top_k=None)"), found)
    pd.DataFrame({"text": texts}).to_csv("texts.csv")
    expected = Classifier("exported", "text", device="cpu").predict("texts.csv")
    for answer, (_, row) in zip(found["answers"], expected.iterrows(), strict=True):
        assert {f"p_{each['label']}": pytest.approx(each["score"], abs=1e-6) for each in answer} == {
            name: row[name] for name in ("p_bad", "p_good")
        }
