"""What the shipped configs would run, asked of Snakemake by a dry run."""

import re
import time
from collections import Counter

import pytest

from rkd.errors import RkdError
from rkd.report.page import graph
from rkd.workflow.forecast import planned_jobs
from tests.helpers import ROOT
from tests.workflow.conftest import Workflow


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A workflow in which nothing has run yet."""
    workflow = Workflow(tmp_path_factory.mktemp("plan"))
    workflow.overlay({})
    return workflow


def test_the_paper(fresh):
    """Nine tasks and five seeds, of two teachers and 20 rows; nine axes with 20 cells of their own on three or four.

    From the teachers that reptile leaves behind, other rows learn.
    """
    runs = 5 * (9 * 20 + 4 * (3 + 4 + 3 + 4 + 2 + 2 + 1) + 3 * 1)
    fresh.snakemake("--dry-run", "--configfile", "configs/paper.yaml")
    started = time.perf_counter()
    planned = fresh.planned("--configfile", "configs/paper.yaml")
    print(f"dry run of the paper's plan: {time.perf_counter() - started:.1f} s")
    assert planned == {
        "all": 1,
        "prepare_data": 9,
        "finetune_teacher": 2 * 9 * 5,
        "train_student": runs - 9 * 5,
        "train_student_and_teacher": 9 * 5,
        "compute_metrics": 9 * 5 + runs,
        "axis_table": 9,
        "axis_figure": 9,
        "main_table": 1,
        "selection_table": 1,
        "group_examples": 3,
        "comparisons": 1,
        "behaviour_table": 1,
        "classes_table": 1,
        "forest_plot": 1,
        "learning_curves": 1,
        "teacher_dynamics": 1,
        "score_vs_cost": 1,
        "provenance_table": 1,
        "report": 1,
    }


def test_the_pictures_of_the_rules_show_snakemakes_graph(fresh):
    """The report's and the README's: rules that make tables and figures are one box there."""
    told = fresh.snakemake("--rulegraph")
    names = dict(re.findall(r'(\d+)\[label = "(\w+)"', told))
    boxes = {"prepare_data", "finetune_teacher", "train_student", "compute_metrics", "report"}
    edges = {
        tuple(names[end] if names[end] in boxes else graph.OUTPUTS for end in edge)
        for edge in re.findall(r"(\d+) -> (\d+)", told)
        if names[edge[1]] != "all"
    } - {(graph.OUTPUTS, graph.OUTPUTS)}
    assert edges == set(graph.EDGES)
    drawn = re.search(r"```mermaid\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    named = {key: re.split("<br/>", name)[0] for key, name in re.findall(r"(\w)\[([^]]+)\]", drawn)}
    arrows = re.findall(r"(\w)(?:\[[^]]+\])? --> (\w)", drawn)
    assert {(named[source], named[target]) for source, target in arrows} == edges


def test_no_submission_of_synthetic_data(fresh):
    """Told before anything runs, and nothing stays locked."""
    told = fresh.snakemake("--cores", "1", "submissions", check=False)
    assert "error: submissions: found synthetic data for cola, mrpc; expected the official test sets" in told
    assert not (fresh.folder / "results").exists()
    assert fresh.planned("all")["train_student"] == 20


def test_ablations_train_equal_cells_once(fresh):
    """Four temperatures and four layer maps, one of each as in the config: three new variants each, on one task."""
    fresh.overlay(
        {
            "variants": {"no-lookahead": None},
            "tasks": ["cola", "mrpc"],
            "seeds": [1, 2],
            "ablations": {
                "teacher-lr": None,
                "heat": {
                    "variant": "kd",
                    "parameter": "temperature",
                    "values": [1.0, 2.0, 5.0, 10.0],
                    "tasks": ["cola"],
                },
                "maps": {
                    "variant": "reptile",
                    "parameter": "layer_map",
                    "values": ["first", "last", "skip", "both"],
                    "tasks": ["cola"],
                },
            },
        }
    )
    try:
        planned, one = fresh.planned(), fresh.planned("ablation_heat")
        both = fresh.planned("ablations")
    finally:
        fresh.overlay({})
    assert planned["train_student"] == 2 * 3 * 2 + (3 + 3) * 2
    assert planned["axis_table"] == planned["axis_figure"] == 2
    assert one["train_student"] == 4 * 2
    assert both["train_student"] == 8 * 2


def test_real_data_on_a_cpu(fresh, tmp_path):
    planned = fresh.planned("--configfile", "configs/cpu.yaml", "--config", f"glue_dir={tmp_path}")
    assert planned["train_student_and_teacher"] == 4 * 3
    assert (planned["prepare_data"], planned["finetune_teacher"], planned["train_student"]) == (
        4,
        2 * 4 * 3,
        (11 + 6) * 4 * 3 + 3 * 3,  # rows, controls, and smoothed labels on three tasks
    )


def test_one_task(fresh):
    planned = fresh.planned("cola_all", "--configfile", "configs/paper.yaml")
    assert planned == {
        "cola_all": 1,
        "prepare_data": 1,
        "finetune_teacher": 2 * 5,
        "train_student": 19 * 5,
        "train_student_and_teacher": 5,
        "compute_metrics": 21 * 5,
    }


@pytest.mark.parametrize(("device", "asking"), [("auto", 1), ("cuda", 1), ("cpu", 0)])
def test_trainings_and_measurements_ask_for_a_gpu_and_nothing_else_does(fresh, device, asking):
    output = fresh.snakemake(
        "--dry-run", "--config", f"device={device}", "gpus=[0,2]", "jobs_per_gpu=3", "--", "all", "efficiency"
    )
    jobs = re.findall(r"(?:local)?rule (\w+):\n(.*?)(?=\n\[|\nJob stats)", output, re.DOTALL)
    asked = {
        name: dict(re.findall(r"\b(\w+)=([^\s]*?)(?:,\s|\n|$)", job.split("resources:")[-1])) for name, job in jobs
    }
    assert {"prepare_data", "compute_metrics", "main_table", "learning_curves"} < asked.keys()
    trainings = {"finetune_teacher", "train_student", "measure_efficiency", "measure_cost"}
    assert {name for name, resources in asked.items() if "gpu" in resources} == trainings
    assert not [name for name, resources in asked.items() if "gpus" in resources], "the Slurm plugin's own: a number"
    for name in trainings:
        assert {key: asked[name][key] for key in ("device", "gpu", "gpu_names", "jobs_per_gpu")} == {
            "device": device,
            "gpu": str(asking),
            "gpu_names": "0,2",
            "jobs_per_gpu": "3",
        }


@pytest.mark.parametrize(("source", "offline"), [("synthetic", "1"), ("hub", "unset")])
def test_jobs_stay_off_the_network_unless_the_config_says_hub(fresh, source, offline, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    (fresh.folder / "seen.smk").write_text(
        'include: "Snakefile"\n\n\nrule seen:\n    output:\n        "seen-{source}.txt",\n    shell:\n'
        '        "echo ${{HF_HUB_OFFLINE-unset}} ${{HF_HUB_DISABLE_TELEMETRY-unset}} > {output}"\n'
    )
    target = f"seen-{source}.txt"
    fresh.snakemake("--snakefile", "seen.smk", "--config", f"data_source={source}", "--", target, offline=False)
    assert (fresh.folder / target).read_text().split() == [offline, "1"]


def test_rkd_plan_counts_the_jobs_of_snakemake(fresh, monkeypatch):
    monkeypatch.chdir(fresh.folder)
    monkeypatch.setenv("PYTHONPATH", str(fresh.folder))
    jobs = planned_jobs(["mrpc_all", "--configfile", "configs/cpu.yaml", "--config", f"glue_dir={fresh.folder}"])
    assert Counter(job.rule for job in jobs) == {
        "mrpc_all": 1,
        "prepare_data": 1,
        "finetune_teacher": 2 * 3,
        "train_student": 11 * 3,
        "train_student_and_teacher": 3,
        "compute_metrics": 13 * 3,
    }
    students = [job.wildcards for job in jobs if job.rule == "train_student"]
    rivals = (
        "no-lookahead",
        "step-target",
        "online",
        "prokt",
        "lgtm",
        "kd-low-loss",
        "kd-left",
        "kd-ensemble",
        "tinybert",
    )
    assert {(each["task"], each["variant"], each["seed"]) for each in students} == {
        ("mrpc", variant, seed) for variant in ("finetune", "kd", *rivals) for seed in ("1", "2", "3")
    }
    with pytest.raises(RkdError, match="did you mean mrpc"):
        planned_jobs(["--config", "tasks=[mprc]"])
