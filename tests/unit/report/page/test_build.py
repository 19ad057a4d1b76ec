"""The HTML report: what it says of known results, what it escapes, and that it needs nothing beside it."""

import csv
import json
import math
import re
import subprocess
import sys
from dataclasses import asdict
from html.parser import HTMLParser
from itertools import pairwise

import pytest
import yaml

from rkd.config.load import load
from rkd.errors import RkdError
from rkd.report.page import build, findings
from rkd.report.page.findings import Difference
from rkd.report.page.graph import EDGES, graph
from rkd.report.rendering.grid import Cell, Grid, Note, Section
from rkd.report.rendering.html import grid_of, table_page
from rkd.workflow.plan import Plan
from tests.helpers import ROOT, TIMEOUT

HOSTILE = '<script>alert("1")</script>&"'
GRID = Grid(
    (("MRPC", ("F1", "Acc")), ("", ("Seeds",))),
    (
        Section("Measured", ((Cell("kd"), Cell("84.1", "0.3", "†"), Cell("−2.5"), Cell("2")),)),
        Section("Published", ((Cell(HOSTILE, mark="1"), Cell("87.5", mark="‡", span=2), Cell("–")),)),
    ),
    f"Dev scores {HOSTILE}",
    (Note("as published", "‡"), Note(HOSTILE)),
    "Row",
)
PIXEL = bytes.fromhex("89504e470d0a1a0a")


class Elements(HTMLParser):
    """Every start tag with its attributes, and the text outside scripts and styles."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self._open = [], "", []
        self.feed(html)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self._open):
            self.text += f" {data}"

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def plan():
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    return Plan(load(config))


@pytest.fixture
def results(tmp_path, plan):
    """A results folder in which all runs but three are there."""
    folder = tmp_path / "results"
    for planned in plan.runs():
        (task, variant, seed), run = planned[:3], planned.folder(folder)
        run.mkdir(parents=True)
        if (task, variant) != ("mrpc", "kd") and (task, variant, seed) != ("cola", "reptile", 2):
            (run / "run.json").write_text("{}")
            told = ["the teacher fell"] if variant == "reptile" else []
            lines = [{"epoch": n, "step": n, "primary_score": 0.5, "warnings": told * n} for n in (0, 1)]
            (run / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    folder = folder / "demo"
    for run, log in {
        ("mrpc", "kd", 1): "12:00:00 epoch 1\n\nValueError: bad " + HOSTILE + "\n",
        ("cola", "reptile", 2): "12:00:00 epoch 1\n",
    }.items():
        path = plan.run(*run).log(folder)
        path.parent.mkdir(parents=True)
        path.write_text(log)
    (folder / "tables").mkdir()
    for name in ("main", "comparisons", "provenance"):
        (folder / f"tables/{name}.json").write_text(json.dumps({"printed": asdict(GRID)}))
        (folder / f"tables/{name}.tex").write_text("tex")
    rows = [["reptile", "kd", "cola", 2.0, 1.0, 3.0, 0.001, 0.002], ["reptile", "kd", "average", -1, -3, 1, 0.3, 0.6]]
    with (folder / "tables/comparisons.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "baseline", "task", "difference", "low", "high", "p", "p_holm"])
        writer.writerows(rows)
    (folder / "figures").mkdir()
    (folder / "figures/learning_curves.png").write_bytes(PIXEL)
    (folder / "figures/learning_curves.pdf").write_bytes(b"%PDF")
    return folder.parent


@pytest.fixture
def html(plan, results):
    tables = ["main", "comparisons", "efficiency", "provenance"]
    return build.page(plan, results, ROOT / "CITATION.cff", tables, ["learning_curves", "latency"])


def test_the_page_says_what_ran_and_what_the_differences_show(html):
    text = Elements(html).text
    assert "Synthetic data, not GLUE." in text
    assert "1 of the 2 tested differences is significant at 5 %" in text
    assert "reptile against kd on CoLA (+2.0)" in text
    assert "reptile is 1.0 points below kd on average (95 % interval −3.0 to +1.0): not significant" in text
    assert "2 seeds: the intervals are wide" in text
    assert "reptile: 3 of 3 runs had a warning at the last evaluation, such as “the teacher fell”." in text
    assert "Speed was not measured" in text
    assert 'no-lookahead reptile outer_target: "student"' in text
    assert "Xinge" in text


def test_missing_runs_are_listed_with_the_last_word_of_their_logs(plan, results, html):
    found = {run[:3]: (run.state, run.reason) for run in build.missing(plan, results)}
    assert found == {
        ("mrpc", "kd", 1): ("failed", f"ValueError: bad {HOSTILE}"),
        ("mrpc", "kd", 2): ("not started", ""),
        ("cola", "reptile", 2): ("no result", "the log ends without an error: the run was stopped or is still running"),
    }
    assert f"3 of {len(plan.runs())} runs are missing" in Elements(html).text


def test_nothing_missing_is_said_too(plan, results):
    for run in plan.runs():
        (run.folder(results) / "run.json").write_text("{}")
    text = Elements(build.page(plan, results, ROOT / "CITATION.cff", ["main"], [])).text
    assert f"None: all {len(plan.runs())} planned runs have results." in text


def test_no_text_becomes_markup(html):
    assert HOSTILE not in html
    assert html.count("<script>") == 1
    assert HOSTILE in Elements(html).text


def test_the_page_needs_nothing_beside_it(html):
    elements = Elements(html)
    addresses = [a[key] for _, a in elements.tags for key in ("src", "href") if key in a]
    assert addresses
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert "url(" not in re.sub(r"url\(#", "", html)
    assert "@import" not in html


def test_every_anchor_has_its_place_and_every_id_is_unique(html):
    elements = Elements(html)
    ids = [attributes["id"] for _, attributes in elements.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = [a["href"][1:] for a in elements.of("a") if a["href"].startswith("#")]
    named += [a[key] for _, a in elements.tags for key in ("aria-labelledby", "aria-describedby") if key in a]
    assert set(named) <= set(ids)


def test_images_have_texts_tables_captions_and_headings_an_order(html):
    elements = Elements(html)
    assert all(len(image["alt"]) > 30 for image in elements.of("img"))
    assert len(elements.of("caption")) == len(elements.of("table")) == 5
    levels = [int(tag[1]) for tag, _ in elements.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_a_broken_sidecar_is_told(plan, results):
    (results / "demo/tables/main.json").write_text("{}")
    with pytest.raises(RkdError, match=r"main\.json: not the sidecar of a table.*printed"):
        build.page(plan, results, ROOT / "CITATION.cff", ["main"], [])


def test_a_grid_survives_json():
    assert grid_of(json.loads(json.dumps(asdict(GRID)))) == GRID


def test_a_table_on_a_page_of_its_own():
    elements = Elements(table_page(GRID, "Main table"))
    assert elements.text.startswith("Main table Main table")
    assert [a.get("colspan") for a in elements.of("td") if "colspan" in a] == ["1", "2"]
    assert "84.1 ± 0.3 †" in elements.text
    assert [a["scope"] for a in elements.of("th")].count("rowgroup") == 2


def difference(**changes):
    values = {"difference": 1.0, "low": -1.0, "high": 3.0, "p": 0.2, "p_holm": 0.4, **changes}
    return Difference("reptile", "kd", "mrpc", **values)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {},
            "reptile is 1.0 points above kd on MRPC (95 % interval −1.0 to +3.0): not significant (p =",
        ),
        ({"difference": -0.04}, "reptile equals kd on MRPC to a tenth of a point"),
        ({"p": 0.04}, "significant alone (p = 0.040), but not after the correction."),
        ({"p": 0.0001, "p_holm": 0.0002}, "significant after the correction (p < 0.001)."),
        ({"p": math.nan, "p_holm": math.nan}, "not tested."),
        ({"difference": math.nan}, "no score to compare."),
    ],
)
def test_a_difference_in_words(changes, words):
    assert words in findings.sentence(difference(**changes), {})


def test_verdicts():
    assert findings.verdict([]) == "No difference between variants could be tested."
    assert findings.verdict([difference()]).startswith("None of the 1 tested differences")
    assert "(+1.0)" in findings.verdict([difference(p_holm=0.01)])


def test_the_page_is_made_without_torch_pandas_and_matplotlib():
    code = (
        "import sys, rkd.report.page.build; "
        "print({'torch', 'pandas', 'matplotlib', 'snakemake', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=TIMEOUT
    )
    assert done.stdout == "set()\n"


def test_the_graph_counts_runs(plan):
    nodes, edges = graph(plan, [("mrpc", "kd", 1, "failed", "")])
    said = {node.name: node.text for node in nodes}
    assert said["finetune_teacher"] == "4 runs"
    assert said["train_student"] == "19 of 20 runs"
    assert [(edge.source, edge.target) for edge in edges] == list(EDGES)
