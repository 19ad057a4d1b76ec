"""What models and methods cost: counts that are known, and measurements that are plausible."""

import itertools
import json
import math
import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    GPT2Config,
    MPNetConfig,
    MPNetForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from benchmarks.flops import forward_flops
from rkd.errors import RkdError
from rkd.methods.build import build
from rkd.profiling.measure import count_step, flops, measure_methods, measure_models
from rkd.report.tables.base import write
from rkd.report.tables.profiling import METHOD_NUMBERS, MODEL_NUMBERS, CostTable, EfficiencyTable, read_measurements
from tests.helpers import ROOT, TIMEOUT
from tests.helpers.models import bert, random_batch
from tests.helpers.report_inputs import METHODS, MODELS

CPU = torch.device("cpu")
SIZES = {"vocab_size": 60, "max_position_embeddings": 140, "num_labels": 3}
BERT = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 40}
CONFIGS = [
    (BertForSequenceClassification, BertConfig(**SIZES, **BERT)),
    (RobertaForSequenceClassification, RobertaConfig(**SIZES, **BERT, pad_token_id=1)),
    (DistilBertForSequenceClassification, DistilBertConfig(**SIZES, dim=24, n_layers=3, n_heads=2, hidden_dim=40)),
    (ElectraForSequenceClassification, ElectraConfig(**SIZES, **BERT, embedding_size=8)),
    (MPNetForSequenceClassification, MPNetConfig(**SIZES, **BERT)),
]


@pytest.mark.parametrize("length", [7, 64])
@pytest.mark.parametrize(("kind", "config"), CONFIGS, ids=[config.model_type for _, config in CONFIGS])
def test_flops_are_those_that_torch_counts(kind, config, length):
    model = kind._from_config(config, attn_implementation="eager").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=torch.randint(5, 60, (1, length)))
    assert flops(config, length) == counter.get_total_flops()


def test_bert_base_has_the_known_number_of_flops():
    assert flops(BertConfig(), 128) / 1e9 == pytest.approx(22.35, abs=0.01)
    half = flops(BertConfig(num_hidden_layers=6), 128)
    assert flops(BertConfig(), 128) / half == pytest.approx(2, abs=0.001)
    with pytest.raises(RkdError, match="found a model of type gpt2"):
        flops(GPT2Config(), 128)


class Rows:
    """As much of `rkd.training.batches.Split` as is needed."""

    lengths = torch.arange(2, 42) % 10 + 2

    def __len__(self):
        return 40

    def batch(self, rows):
        return random_batch(int(rows[0]), size=len(rows))


def test_models_are_measured_on_the_same_examples():
    deep, flat = bert(6, seed=1, hidden=64), bert(1, seed=2, hidden=64)
    teacher, student = measure_models({"teacher": deep, "student": flat}, Rows(), CPU, repeats=7, warm_up=2)
    assert (teacher["row"], student["row"]) == ("teacher", "student")
    assert teacher["parameters"] == sum(p.numel() for p in deep.parameters())
    embeddings = deep.bert.embeddings
    tables = (embeddings.word_embeddings, embeddings.position_embeddings, embeddings.token_type_embeddings)
    without = teacher["parameters"] - sum(table.weight.numel() for table in tables)
    assert teacher["parameters_without_embeddings"] == without
    lengths = Rows.lengths.tolist()
    assert student["flops"] == pytest.approx(sum(flops(flat.config, n) for n in lengths) / len(lengths))
    assert teacher["latency_ms"] > student["latency_ms"] > 0
    assert student["throughput"] > teacher["throughput"] > 0
    with pytest.raises(RkdError, match="40 examples; expected at least 64"):
        measure_models({"teacher": deep}, Rows(), CPU, batch_size=64)


def method(name, batch, **options):
    models, quiz = (bert(2, seed=1), bert(4, seed=2)), itertools.repeat(batch)
    return build(name, *models, options=options, quiz=quiz, student_lr=5e-5, total_steps=50)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("finetune", {}, (1, 0, 1)),
        ("kd", {"alpha": 0.5}, (1, 1, 1)),
        ("reptile", {"layer_map": "skip", "teacher_lr": 1e-3}, (1, 2, 1)),  # one serves both gradients
        ("reptile", {"layer_map": "skip", "teacher_lr": 1e-3, "inner_steps": 2}, (3, 3, 3)),
        ("kd", {"gradient_accumulation": 2}, (2, 2, 2)),
    ],
)
def test_passes_are_counted(name, options, expected):
    batch = random_batch(1)
    found = count_step(method(name, batch, **options), batch)
    assert (found["student_forwards"], found["teacher_forwards"], found["backwards"]) == expected
    assert count_step(method(name, batch, **options), batch) == found, "counting leaves nothing behind"


def test_a_step_of_reptile_has_the_flops_of_its_passes():
    batch = random_batch(1)
    fine, kd, reptile = (
        count_step(method(name, batch, **options), batch)["flops"]
        for name, options in (("finetune", {}), ("kd", {}), ("reptile", {"layer_map": "skip", "teacher_lr": 1e-3}))
    )
    teacher = kd - fine
    product = fine / 3  # a backward pass costs two products for each one of the forward pass
    assert reptile - kd == pytest.approx(teacher + product, rel=0.1)  # the second gradient costs one


def test_a_frozen_teacher_costs_the_flops_of_its_forward_pass_attention_included():
    batch = random_batch(1, length=16)  # a number of tokens that stays as it is
    batch["attention_mask"] = torch.ones_like(batch["attention_mask"])
    guided = method("kd", batch)
    difference = count_step(guided, batch)["flops"] - count_step(method("finetune", batch), batch)["flops"]
    assert guided.teacher is not None
    assert difference == forward_flops(guided.teacher.config, [16] * len(batch["labels"]))


def test_methods_are_measured_one_by_one():
    batch = random_batch(1)
    builders = {name: lambda name=name: method(name, batch) for name in ("finetune", "kd")}
    found = measure_methods(builders, batch, CPU, rounds=2, steps=2, warm_up=1)
    assert [line["row"] for line in found] == ["finetune", "kd"]
    assert all(set(METHOD_NUMBERS) <= set(line) and line["seconds"] > 0 for line in found)


def test_peak_memory_sees_what_is_allocated():
    """In a process of its own: one that has trained before may hold enough free memory for the block already."""
    program = (
        "import torch; from rkd.profiling.measure import peak_memory\n"
        "with peak_memory(torch.device('cpu')) as memory: torch.ones(64 << 18)\n"  # 64 MiB
        "print(memory['mib'])"
    )
    found = float(
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=TIMEOUT
        ).stdout
    )
    if math.isnan(found):
        pytest.skip("this system keeps no record of the peak that can be set back")
    assert 50 < found < 200


# --- tables --------------------------------------------------------------------------------------------------


def saved(folder, content, name="a.json"):
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def test_the_efficiency_table_has_the_papers_number_beside_ours(tmp_path):
    table = EfficiencyTable(tuple(read_measurements([saved(tmp_path, MODELS)], MODEL_NUMBERS)))
    assert table.frame()["speedup"].tolist() == [1.0, 2.0]
    markdown = table.grid().markdown()
    assert "The paper quotes 1.94×" in markdown
    assert "Measured on Some CPU, 2 threads." in markdown
    assert "RTE (64 tokens)" in markdown
    assert "2.00×" in markdown
    sidecar = json.loads(write(table, tmp_path, "efficiency")[-1].read_text())
    assert sidecar["files"] == {str(tmp_path / "a.json"): MODELS}


def test_the_cost_table_tells_the_ratio(tmp_path):
    (measurement,) = read_measurements([saved(tmp_path, METHODS)], METHOD_NUMBERS)
    table = CostTable(measurement, {"kd": "KD"})
    assert table.ratio() == pytest.approx({"seconds": 2.5, "memory_mib": 2.5, "flops": 2.5})
    assert table.frame()["relative"].tolist() == pytest.approx([1, 2, 5])
    markdown = table.grid().markdown()
    assert "MetaDistil / Reptile: 2.50 × the time" in markdown
    assert "| KD " in markdown
    without = {**METHODS, "rows": [{**line, "memory_mib": None} for line in METHODS["rows"][:2]]}
    (measurement,) = read_measurements([saved(tmp_path, without)], METHOD_NUMBERS)
    assert CostTable(measurement, {}).ratio() == {}
    assert "MetaDistil" not in CostTable(measurement, {}).grid().markdown()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], r"a\.json: found \[\]; expected an object"),
        ({"task": "rte", "length": 9, "rows": [{"row": "kd"}]}, "rows/0: the key 'parameters' is missing; found row"),
    ],
)
def test_broken_measurements_are_told(tmp_path, content, message):
    with pytest.raises(RkdError, match=message):
        read_measurements([saved(tmp_path, content)], MODEL_NUMBERS)
    with pytest.raises(RkdError, match=r"absent\.json: cannot be read: No such file"):
        read_measurements([tmp_path / "absent.json"], MODEL_NUMBERS)


@pytest.mark.slow
def test_scripts_measure_prepared_data(tmp_path):
    from rkd.data.prepare import prepare
    from rkd.models.loading import load
    from rkd.specs.jobs import ModelSpec
    from rkd.specs.profiling import StepCostSpec, TimedVariant
    from rkd.tasks import get

    scripts = ROOT / "workflow_scripts"
    model = {"model_type": "bert", "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    for name, layers in (("teacher", 2), ("student", 1)):
        saved(tmp_path, {**model, "num_hidden_layers": layers}, f"{name}.json")
    teacher_spec = ModelSpec(str(tmp_path / "teacher.json"))
    prepare(
        "rte",
        tmp_path / "rte",
        source="synthetic",
        path=None,
        revision=None,
        tokenizer=teacher_spec.source,
        tokenizer_revision=None,
        vocab_size=200,
        max_length=64,
        synthetic_rows=[40, 40, 10],
    )
    size = len(json.loads((tmp_path / "rte/tokenizer/tokenizer.json").read_text())["model"]["vocab"])
    student_spec = ModelSpec(str(tmp_path / "student.json"))
    for name, spec in (("teacher", teacher_spec), ("student", student_spec)):
        load(spec, get("rte"), size, seed=1).save_pretrained(tmp_path / name)

    def run(script, *arguments):
        command = [sys.executable, scripts / script, *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
        assert result.returncode == 0, result.stderr

    shared = ["--data", tmp_path / "rte", "--device", "cpu"]
    models = [f"{name}={tmp_path / name}" for name in ("teacher", "student")]
    run("measure_efficiency.py", *shared, "--repeats", 2, "--out", tmp_path / "e.json", "--models", *models)
    run("make_efficiency_table.py", "--measurements", tmp_path / "e.json", "--out-dir", tmp_path)
    variants = (
        TimedVariant("kd", "kd", {"alpha": 0.5}, {}),
        TimedVariant("reptile", "reptile", {"layer_map": "last", "teacher_lr": 1e-5}, {}),
    )
    cost = StepCostSpec(student_spec, variants, batch_size=4)
    run(
        *("measure_cost.py", *shared, "--spec", cost.json(), "--teacher", tmp_path / "teacher"),
        *("--steps", 1, "--out", tmp_path / "c.json"),
    )
    rows = json.loads((tmp_path / "c.json").read_text())["rows"]
    assert [(line["row"], line["teacher_forwards"]) for line in rows] == [("kd", 1), ("reptile", 2)]
    assert (tmp_path / "efficiency.tex").is_file()
