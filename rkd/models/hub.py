"""Files from the Hugging Face hub: of one commit, from the cache first, and with the digests that the hub states.

The hub names every file of a commit with a digest of its content: SHA-256 for large files, Git's SHA-1 for small
ones. The list of a commit is kept in the cache beside its files, in the form in which huggingface_hub keeps it. So the
cache alone tells what a commit holds, and whether all that is asked for is there, whole and undamaged: a pinned
revision is read without a single request, with or without a network.
"""

import contextlib
import fnmatch
import functools
import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import httpx2
import tenacity
from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import (
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    XetDownloadError,
)
from huggingface_hub.file_download import repo_folder_name

from rkd.errors import RkdError
from rkd.models.source import COMMIT, ModelSource, parse
from rkd.utils.files import atomic_write_text, sha256

log = logging.getLogger("rkd")

Kind = Literal["model", "dataset"]
T = TypeVar("T")

# What is taken of a repository: parts, each with alternatives of which the first that is there counts.
TOKENIZER = (
    ("config.json",),
    ("tokenizer.json",),
    ("tokenizer_config.json",),
    ("special_tokens_map.json",),
    ("added_tokens.json",),
    ("vocab.txt",),
    ("vocab.json",),
    ("merges.txt",),
    ("*.model",),
    ("bpe.codes",),
)
WEIGHTS = ("model.safetensors", "model*.safetensors*", "pytorch_model.bin", "pytorch_model*.bin*")
MODEL = (*TOKENIZER, WEIGHTS)

TRIES = 4
LONGEST_WAIT = 60.0  # seconds; a hub that asks for more patience is told to the user instead
# Answers that another try may change.
_PASSING = (408, 429, 500, 502, 503, 504)
# All that the client raises for a hub, a network or a disk that does not do what it should.
_FAILURES = (OSError, ValueError, TypeError, KeyError, httpx2.HTTPError, httpx2.InvalidURL, XetDownloadError)


class Unreachable(RkdError):
    """The hub gives no answer, and the cache does not hold what was asked for."""


@dataclass(frozen=True)
class Snapshot:
    """Some files of a repository at one commit: in the cache, whole and checked.

    Attributes:
        name: the repository, for example "google-bert/bert-base-uncased".
        commit: 40 hexadecimal digits.
        folder: where the files lie, under their own names.
        sha256: of each file, by its name.
    """

    name: str
    commit: str
    folder: Path
    sha256: Mapping[str, str]

    def record(self) -> dict[str, Any]:
        """Return the entry for run.json."""
        return {"name": self.name, "revision": self.commit, "sha256": dict(self.sha256)}


@dataclass(frozen=True)
class _File:
    """A file as the hub describes it: its size, and the SHA-256 of its content or, for small files, Git's SHA-1."""

    size: int
    blob_id: str | None
    lfs_sha256: str | None


@functools.cache
def snapshot(
    name: str, revision: str | None, parts: tuple[tuple[str, ...], ...] = MODEL, kind: Kind = "model"
) -> Snapshot:
    """Return the files of a repository at a revision that `parts` names.

    What is in the cache is not asked for again. A file whose content is not the one that the hub names is fetched once
    more.

    Args:
        name: the repository.
        revision: a commit, branch or tag; None: the newest.
        parts: alternatives of file names, in which * stands for anything but a folder.
        kind: "model" or "dataset".

    Raises:
        Unreachable: the hub gives no answer, or HF_HUB_OFFLINE is set, and a file is not in the cache.
        RkdError: no such repository, revision or access; content that is not the hub's; a cache that is not writable.

    Example:
        >>> snapshot("google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594").sha256["config.json"]
        '…'
    """
    commit = resolve(name, revision, kind)
    place = _Place(name, commit, kind)
    files = place.files()
    if WEIGHTS in parts and not _first(files, WEIGHTS):
        files = place.ask()[1]  # what is in the cache may be another program's, or of a hub that was unwell
    chosen = list(dict.fromkeys(file for part in parts for file in _first(files, part)))
    if WEIGHTS in parts and not _first(files, WEIGHTS):
        raise RkdError(
            f"{place}: found no weights among {len(files)} files; expected model.safetensors or pytorch_model.bin"
        )
    digests = {file: place.checked(file, files[file]) for file in chosen}
    # What a loader finds beside them it would load, too.
    for path in sorted(place.folder.iterdir()) if chosen else ():
        if path.name not in {file.split("/")[0] for file in files} and not path.name.startswith("."):
            raise RkdError(f"{path}: found a file that {place} does not have; expected none; remove it")
    return Snapshot(name, commit, place.folder, digests)


@functools.cache
def resolve(name: str, revision: str | None = None, kind: Kind = "model") -> str:
    """Resolve a revision to a commit; the answer stays the same in a process even if a branch moves.

    A commit is itself, without a request. For a branch or tag the hub is asked; where it gives no answer, the commit
    counts that it named last, and a line of the log says so.

    Raises:
        RkdError: as `snapshot`.
    """
    if revision is not None and COMMIT.fullmatch(revision):
        return revision
    ref = _storage(name, kind) / "refs" / (revision or constants.DEFAULT_REVISION)
    try:
        commit = _Place(name, revision or constants.DEFAULT_REVISION, kind).ask()[0]
    except Unreachable:
        known = ref.read_text(encoding="utf-8", errors="replace").strip() if ref.is_file() else ""
        if not COMMIT.fullmatch(known):
            raise
        why = "HF_HUB_OFFLINE=1" if constants.HF_HUB_OFFLINE else "the hub gives no answer"
        log.warning("%s: %s: going on with commit %s, the last one known here", name, why, known)
        return known
    _keep(ref, commit)
    return commit


def local(source: ModelSource, revision: str | None = None, parts: tuple[tuple[str, ...], ...] = MODEL) -> ModelSource:
    """Download a hub model into the cache, verify it and return its folder; return other references unchanged.

    Args:
        source: any model reference; all but those of the hub are returned as they are.
        revision: its commit, branch or tag; by default the one that the reference names.
        parts: as `snapshot`.
    """
    if source.kind != "hub":
        return source
    return ModelSource("folder", str(snapshot(source.location, revision or source.revision, parts).folder))


def commit_of(reference: str, revision: str | None = None) -> str | None:
    """Return the commit of a model reference that names the hub; None for others."""
    source = parse(reference)
    return resolve(source.location, revision or source.revision) if source.kind == "hub" else None


@dataclass(frozen=True)
class _Place:
    """A repository at a revision, on the hub and in the cache."""

    name: str
    revision: str
    kind: Kind

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}"

    @property
    def folder(self) -> Path:
        return _storage(self.name, self.kind) / "snapshots" / self.revision

    def files(self) -> dict[str, _File]:
        """All files of a commit, as the cache or else the hub knows them."""
        return _read_list(self._list) or self.ask()[1]

    @property
    def _list(self) -> Path:
        return _list_of(self.name, self.kind, self.revision)

    def ask(self) -> tuple[str, dict[str, _File]]:
        """Ask the hub for the commit and its files, and keep the answer in the cache."""

        def ask() -> tuple[str, dict[str, _File]]:
            api = HfApi()
            about = api.dataset_info if self.kind == "dataset" else api.model_info
            info = about(self.name, revision=self.revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT)
            files = {
                each.rfilename: _File(each.size or 0, each.blob_id, each.lfs.sha256 if each.lfs else None)
                for each in info.siblings or ()
            }
            return str(info.sha), files

        commit, files = self._answered(ask)
        if not COMMIT.fullmatch(commit) or (COMMIT.fullmatch(self.revision) and commit != self.revision):
            raise RkdError(f"{self}: the hub answered with commit {commit!r}; expected that revision")
        if not files:
            raise RkdError(f"{self}: the hub lists no files; expected those of a {self.kind}")
        _keep(_list_of(self.name, self.kind, commit), _list_text(files))
        return commit, files

    def checked(self, file: str, expected: _File) -> str:
        """SHA-256 of a file that is in the cache, or comes there; its content is the one that the hub names."""
        path = self.folder / file
        if not path.is_file():
            self._download(file)
        content, wrong = self._compared(path, expected)
        if wrong and not constants.HF_HUB_OFFLINE:
            log.warning("%s; fetching it once more", wrong)
            expected = self.ask()[1].get(file, expected)
            self._download(file, again=True)
            content, wrong = self._compared(path, expected)
        if wrong and constants.HF_HUB_OFFLINE:
            raise RkdError(f"{wrong}; HF_HUB_OFFLINE=1 forbids to fetch it again")
        if wrong:
            for each in (path.resolve(), path):  # the blob and the link to it: no other program shall take it for whole
                each.unlink(missing_ok=True)
            raise RkdError(f"{wrong}; a second download did not help, and the file was removed from the cache")
        return content

    def _compared(self, path: Path, expected: _File) -> tuple[str, str | None]:
        """SHA-256 of a file, and what is wrong with its content."""
        stated = expected.lfs_sha256 or expected.blob_id
        try:
            content = sha256(path)
            found = content if expected.lfs_sha256 else _git_digest(path.read_bytes())
        except OSError as error:
            raise RkdError(f"{path}: cannot be read: {error.strerror}; expected a file of {self}") from None
        if stated is None:
            log.warning("%s: the hub states no digest of %s, which is taken as it is", self, path.name)
        elif found != stated:
            return content, f"{path}: found content with the digest {found}; expected {stated}, that of {self}"
        return content, None

    def _download(self, file: str, again: bool = False) -> None:
        self._answered(
            lambda: hf_hub_download(self.name, file, repo_type=self.kind, revision=self.revision, force_download=again)
        )

    def _answered(self, ask: Callable[[], T]) -> T:
        """Request something from the hub, up to four times if that may help; any failure becomes one RkdError."""
        try:
            return _patiently(ask)
        except _FAILURES as error:
            raise self._told(error) from error

    def _told(self, error: BaseException) -> RkdError:
        # The client tells of an absent file; why it could not be fetched is behind that.
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError | ValueError) else None
        if cause is not None and not isinstance(cause, json.JSONDecodeError):
            return self._told(cause)
        if isinstance(error, OfflineModeIsEnabled):
            return Unreachable(
                f"{self}: not in the cache {_storage(self.name, self.kind)}, and HF_HUB_OFFLINE=1 forbids to ask the "
                "hub; expected a cache that `rkd fetch` has filled"
            )
        if isinstance(error, GatedRepoError):
            page = f"{constants.ENDPOINT}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"
            return RkdError(
                f"{self}: access is restricted; expected an account with access (ask for it at {page}, then `hf auth "
                "login`)"
            )
        if isinstance(error, RepositoryNotFoundError):
            return RkdError(
                f"{self}: the hub knows no such {self.kind}, or it is private; expected a name that it knows, or a "
                "token (`hf auth login`)"
            )
        if isinstance(error, RevisionNotFoundError):
            return RkdError(f"{self}: the hub has no such revision; expected a commit, branch or tag of {self.name}")
        if isinstance(error, RemoteEntryNotFoundError):
            return RkdError(f"{self}: the hub lists a file that it does not have: {_reason(error)}; expected the file")
        if isinstance(error, HfHubHTTPError):
            told = f"{self}: the hub answered {error.response.status_code}: {_reason(error)}"
            return (Unreachable if _passes(error) else RkdError)(
                f"{told}; expected an answer, or a cache that `rkd fetch` has filled"
            )
        if isinstance(error, httpx2.HTTPError | httpx2.InvalidURL | XetDownloadError):
            return Unreachable(
                f"{self}: the hub {constants.ENDPOINT} cannot be reached: {_reason(error)}; expected a network, or a "
                "cache that `rkd fetch` has filled"
            )
        if isinstance(error, HFValidationError):
            return RkdError(f"{self}: found a name that no hub has: {_reason(error)}; expected organisation/name")
        if isinstance(error, FileMetadataError | ValueError | TypeError | KeyError):
            return RkdError(
                f"{self}: what answers at {constants.ENDPOINT} is no hub: {_reason(error)}; expected the Hugging Face "
                "hub or a mirror of it (HF_ENDPOINT)"
            )
        where = getattr(error, "filename", None) or _storage(self.name, self.kind)
        return RkdError(f"{self}: cannot be fetched to {where}: {_reason(error)}")


def _git_digest(content: bytes) -> str:
    """Return Git's hash of a file's content, which is how the hub identifies small files."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _passes(error: BaseException) -> bool:
    """Return True for a failure that a retry may fix."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _PASSING
    cut_short = isinstance(error, OSError) and "Consistency check failed" in str(error)
    return cut_short or (isinstance(error, httpx2.TransportError) and not isinstance(error, httpx2.ProxyError))


def _wait(state: tenacity.RetryCallState) -> float:
    """Seconds until the next try: 1, 2, 4, or what the hub asks for."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    return min(float(asked), LONGEST_WAIT) if asked.isdigit() else 2.0 ** (state.attempt_number - 1)


def _say(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    seconds = state.next_action.sleep if state.next_action else 0
    log.warning("hub: %s; asking again in %.0f s", _reason(error), seconds)


@tenacity.retry(
    retry=tenacity.retry_if_exception(_passes),
    stop=tenacity.stop_after_attempt(TRIES),
    wait=_wait,
    before_sleep=_say,
    reraise=True,
)
def _patiently(ask: Callable[[], T]) -> T:
    return ask()


def _reason(error: BaseException | None) -> str:
    """Return the first line of an error, without request ids."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r" \((Request ID|Amzn Trace ID|Amz CF ID): [^)]*\)", "", lines[0]) if lines else type(error).__name__


def _storage(name: str, kind: Kind) -> Path:
    return Path(constants.HF_HUB_CACHE).absolute() / repo_folder_name(repo_id=name, repo_type=kind)


def _first(files: Iterable[str], alternatives: tuple[str, ...]) -> list[str]:
    """Return the files of the first alternative that has any."""
    for pattern in alternatives:
        depth = pattern.count("/")
        if found := [file for file in files if file.count("/") == depth and fnmatch.fnmatchcase(file, pattern)]:
            return sorted(found)
    return []


def _list_of(name: str, kind: Kind, commit: str) -> Path:
    return _storage(name, kind) / "trees" / f"{commit}.json"


def _list_text(files: Mapping[str, _File]) -> str:
    def entry(file: _File) -> dict[str, Any]:
        large = {"lfs_sha256": file.lfs_sha256, "lfs_size": file.size} if file.lfs_sha256 else {}
        return {"size": file.size, "blob_id": file.blob_id or "", **large}

    return json.dumps({"format_version": 1, "files": {name: entry(files[name]) for name in sorted(files)}}, indent=1)


def _read_list(path: Path) -> dict[str, _File] | None:
    """Return the cached file list of a commit; None if it is missing or invalid."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format_version"] != 1:
            return None
        return {
            name: _File(entry["size"], entry["blob_id"] or None, entry.get("lfs_sha256"))
            for name, entry in content["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _keep(path: Path, text: str) -> None:
    """Write to the cache what spares a request later; a cache that is read-only does without."""
    with contextlib.suppress(OSError, RkdError):
        if not (path.is_file() and path.read_text(encoding="utf-8") == text):
            atomic_write_text(path, text)
