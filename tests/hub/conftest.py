"""A hub on loopback for a module's tests, and this process as its client."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from datasets import Dataset
from huggingface_hub.utils import close_session

from rkd.data import official
from rkd.data.glue_dir import features
from rkd.models import hub as client
from rkd.tasks import get
from tests.hub import repositories
from tests.hub.server import Hub, Repository


@pytest.fixture(scope="session")
def contents() -> list[Repository]:
    """All repositories, made once; not to be changed."""
    return repositories.everything()


def wnli_digests() -> dict[tuple[str, str], str]:
    """The table of `rkd.data.official`, were our rows the official ones."""
    task = get("wnli")
    splits = {name: Dataset.from_list(repositories.wnli_rows(name), features=features(task)) for name in task.splits}
    return {("wnli", name): official.content_hash(split, task.text_fields) for name, split in splits.items()}


@pytest.fixture
def hub(contents: list[Repository]) -> Iterator[Hub]:
    """The hub, with all that the configs name."""
    with Hub().serving() as running:
        for repository in contents:
            running.add(repository.copy())
        yield running


@pytest.fixture
def here(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The same, for this process: an empty cache, no waiting between tries, and our WNLI as the official one."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(official, "SHA256", wnli_digests())
    point(monkeypatch, hub.endpoint, tmp_path / "cache")
    return hub


def point(monkeypatch: pytest.MonkeyPatch, endpoint: str, cache: Path, offline: bool = False) -> None:
    """Let this process, as if it began, use a hub and a cache."""
    settings = {
        "ENDPOINT": endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": offline,
        "HF_HUB_DISABLE_TELEMETRY": True,
    }
    for name, value in settings.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", endpoint)
    close_session()
    client.snapshot.cache_clear()
    client.resolve.cache_clear()
