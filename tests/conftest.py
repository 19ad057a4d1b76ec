"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.helpers import ROOT
from tests.helpers.seeds import SEED

# How long an example takes says more about the machine than about the code.
settings.register_profile("rkd", deadline=None)
settings.load_profile("rkd")


@pytest.fixture(scope="session")
def glue_dir() -> Path:
    """The real GLUE files: RKD_GLUE_DIR, else ../shared/glue beside the project."""
    folder = Path(os.environ.get("RKD_GLUE_DIR", ROOT.parent / "shared" / "glue"))
    if not folder.is_dir():
        pytest.skip(f"no real GLUE files: set RKD_GLUE_DIR (looked in {folder})")
    return folder


def pytest_report_header() -> str:
    return f"interruptions: RKD_TEST_SEED={SEED}"
