"""What the shipped configs would run, asked of Snakemake by a dry run."""

import time

import pytest

from tests.workflow.conftest import Workflow


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A workflow in which nothing has run yet."""
    workflow = Workflow(tmp_path_factory.mktemp("plan"))
    workflow.overlay({})
    return workflow


def test_the_paper(fresh):
    """Nine tasks, five seeds, a teacher and three rows; AX goes with MNLI."""
    fresh.snakemake("--dry-run", "--configfile", "configs/paper.yaml")
    started = time.perf_counter()
    planned = fresh.planned("--configfile", "configs/paper.yaml")
    print(f"dry run of the paper's plan: {time.perf_counter() - started:.1f} s")
    assert planned == {
        "all": 1,
        "prepare_data": 9,
        "finetune_teacher": 9 * 5,
        "train_student": 9 * 5 * 3,
        "compute_metrics": 9 * 5 * 4,
        "main_table": 1,
        "learning_curves": 1,
    }


def test_real_data_on_a_cpu(fresh, tmp_path):
    planned = fresh.planned("--configfile", "configs/cpu.yaml", "--config", f"glue_dir={tmp_path}")
    assert (planned["prepare_data"], planned["finetune_teacher"], planned["train_student"]) == (2, 4, 12)


def test_one_task(fresh):
    planned = fresh.planned("cola_all", "--configfile", "configs/paper.yaml")
    assert planned == {
        "cola_all": 1,
        "prepare_data": 1,
        "finetune_teacher": 5,
        "train_student": 15,
        "compute_metrics": 20,
    }
