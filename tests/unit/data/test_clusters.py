"""Groups of related dev examples, read from the raw data of a task."""

import subprocess
import sys

import pandas as pd
import pytest

from rkd.config.load import load
from rkd.data.clusters import read_grouping
from rkd.errors import RkdError
from rkd.workflow.plan import Plan
from tests.helpers import ROOT, TIMEOUT
from tests.helpers.configs import merged


def plan(**changes):
    return Plan(load(merged("{}") | changes))


@pytest.mark.parametrize(
    ("task", "columns"), [("qnli", ("sentence",)), ("mnli", ("premise",)), ("qqp", ("question1",))]
)
def test_tasks_of_glue_have_their_columns(task, columns):
    rows = {"train": 30, "dev": 20, "test": 5}
    spec = plan(tasks=[task], synthetic_rows=rows).clusters(task)
    assert spec.columns == columns
    for found in read_grouping(spec).values():
        assert found.idx == list(range(20))
        assert [len(values) for values in found.fields] == [20]
    assert plan(tasks=["cola"]).clusters("cola") is None


def own(tmp_path, text, **changes):
    (tmp_path / "train.csv").write_text(text)
    entry = {"train": str(tmp_path / "train.csv"), "text": ["t"], "label": "y", "labels": ["a", "b"], "clusters": "doc"}
    entry = {key: value for key, value in (entry | changes).items() if value is not None}
    return plan(tasks=["mine"], custom_tasks={"mine": entry})


def test_a_column_of_a_custom_task_groups_its_examples_and_changes_no_run(tmp_path):
    text = "doc,t,y\n" + "".join(f"d{row // 3},text {row},{'ab'[row % 2]}\n" for row in range(30))
    with_clusters, without = own(tmp_path, text), own(tmp_path, text, clusters=None)
    assert with_clusters.runs() == without.runs()
    spec = with_clusters.clusters("mine")
    command = [sys.executable, ROOT / "workflow_scripts/group_examples.py", "--spec", spec.json()]
    command += ["--files", f"train={tmp_path}/train.csv", "--out", tmp_path / "mine.parquet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "validation: 30 examples in 10 groups\n"
    frame = pd.read_parquet(tmp_path / "mine.parquet")
    assert frame["cluster"].tolist() == [row // 3 for row in range(30)]
    (tmp_path / "train.csv").write_text(text + "d1,more,a\n")
    with pytest.raises(RkdError, match="the file has changed"):
        read_grouping(spec, {"train": str(tmp_path / "train.csv")})


def test_the_groups_are_those_of_the_test_file_where_tables_compare_on_it(tmp_path):
    text = "doc,t,y\n" + "".join(f"d{row // 3},text {row},{'ab'[row % 2]}\n" for row in range(30))
    (tmp_path / "test.csv").write_text("doc,t,y\nx,one,a\nx,two,b\nz,three,a\n")
    given = {"test": str(tmp_path / "test.csv")}
    spec = own(tmp_path, text, **given, compare_on="test").clusters("mine")
    assert read_grouping(spec, given | {"train": str(tmp_path / "train.csv")}) == {
        "test": ([0, 1, 2], [["x", "x", "z"]])
    }
    assert spec.decides != own(tmp_path, text, **given).clusters("mine").decides


def test_a_row_without_a_value_is_named(tmp_path):
    text = "doc,t,y\n" + "".join(f"{'' if row == 4 else 'd'},text {row},{'ab'[row % 2]}\n" for row in range(30))
    spec = own(tmp_path, text).clusters("mine")
    with pytest.raises(RkdError, match=r"row 5, column 'doc': found nothing; expected a value in every row"):
        read_grouping(spec, {"train": str(tmp_path / "train.csv")})
