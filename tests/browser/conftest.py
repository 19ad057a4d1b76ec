"""Headless Chromium (Debian's chromium and chromium-driver), and the report of a workflow that has run."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from tests.workflow.conftest import Workflow

# A broken table must not make the page wider than a phone: names without a place to break, and several tasks.
LONG = "distillation-from-a-frozen-teacher-at-a-low-temperature"


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A browser without a window; it reaches no network, and tells what the pages write to the console."""
    paths = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in paths:
        pytest.skip("no chromium with chromedriver: apt-get install chromium chromium-driver")
    options = ChromeOptions()
    options.binary_location = str(paths[0])
    # Root has no sandbox; /dev/shm is small in containers.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(str(paths[1])))
    driver.set_page_load_timeout(120)
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def reported(browser: Chrome, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A workflow that has run, with one of its trainings lost again and the report made of the rest."""
    workflow = Workflow(tmp_path_factory.mktemp("reported"))
    config = {
        "tasks": ["cola", "mrpc"],
        "seeds": [1],
        "synthetic_rows": {"train": 64, "dev": 40, "test": 10},
        "vocab_size": 300,
        "teacher": {"epochs": 1},
        "student": {"epochs": 1},
        "variants": {"no-lookahead": None, LONG: {"method": "kd", "temperature": 1.0}},
        "ablations": {"teacher-lr": None},
    }
    workflow.overlay(config)
    workflow.snakemake()
    lost, scored = workflow.run("reptile"), workflow.metrics("reptile")
    shutil.rmtree(lost)
    scored.unlink()
    log = workflow.experiment / f"logs/train_student/mrpc/{lost.parent.name}/seed-1.log"
    log.write_text("12:00:00 epoch 1\nRuntimeError: out of <memory>\n")
    workflow.overlay({**config, "report_only": True})
    workflow.snakemake()
    return workflow


@pytest.fixture(scope="session")
def moved(reported: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page alone, in a folder of its own."""
    return Path(shutil.copy2(reported.experiment / "report/index.html", tmp_path_factory.mktemp("moved")))


@pytest.fixture
def page(browser: Chrome, moved: Path) -> Chrome:
    """The browser, which has just opened the page at the size of a desktop."""
    size(browser, 1280)
    media(browser, {})
    browser.get_log("browser")
    browser.get(moved.as_uri())
    return browser


def size(browser: Chrome, width: int, height: int = 844) -> None:
    """The size of the page, smaller than any window may be."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def media(browser: Chrome, features: dict[str, str], kind: str = "screen") -> None:
    """What the reader prefers, for example prefers-color-scheme, and the medium."""
    pairs = [{"name": name, "value": value} for name, value in features.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": kind, "features": pairs})


def console(browser: Chrome) -> str:
    """What the page wrote to the console, errors of the network too."""
    return json.dumps(browser.get_log("browser"))
