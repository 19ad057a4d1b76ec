"""Files of one commit on the Hugging Face hub, read from the cache first and verified with the hub's digests.

The hub lists every file of a commit with a digest of its content: SHA-256 for large files, Git's SHA-1 for small ones.
The list is stored in the cache beside the files, in the format of huggingface_hub. The cache alone therefore shows
which files a commit has, and whether the requested ones are complete and undamaged. A pinned revision in the cache
needs no request, with or without a network.
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

# The files to download: parts with alternatives; the first alternative that exists is used.
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
LONGEST_WAIT = 60.0  # seconds; upper limit for the Retry-After that the hub asks for
# HTTP status codes that are worth a retry.
_TRANSIENT = (408, 429, 500, 502, 503, 504)
# All exceptions that the client raises for failures of the hub, the network or the disk.
_FAILURES = (OSError, ValueError, TypeError, KeyError, httpx2.HTTPError, httpx2.InvalidURL, XetDownloadError)


class Unreachable(RkdError):
    """An error: the hub does not answer, and the requested files are not in the cache."""


@dataclass(frozen=True)
class Snapshot:
    """Some files of a repository at one commit, complete and verified in the cache.

    Attributes:
        name: the repository, for example "google-bert/bert-base-uncased".
        commit: 40 hexadecimal digits.
        folder: the folder with the files, under their own names.
        sha256: file name → SHA-256.
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
    """A file as the hub lists it: size, and SHA-256 or (for small files) Git's SHA-1 of its content."""

    size: int
    blob_id: str | None
    lfs_sha256: str | None


@functools.cache
def snapshot(
    name: str, revision: str | None, parts: tuple[tuple[str, ...], ...] = MODEL, kind: Kind = "model"
) -> Snapshot:
    """Download the files of a repository that match `parts`, unless they are in the cache, and verify them.

    A file that does not match the hub's digest is downloaded once more.

    Args:
        name: the repository.
        revision: a commit, branch or tag; None: the newest.
        parts: for each part, alternative file names; * matches anything except "/".
        kind: "model" or "dataset".

    Raises:
        Unreachable: a file is not in the cache, and the hub does not answer or HF_HUB_OFFLINE is set.
        RkdError: the repository or revision does not exist or is not accessible, a file does not match its digest, or
            the cache is not writable.

    Example:
        >>> snapshot("google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594").sha256["config.json"]
        '…'
    """
    commit = resolve(name, revision, kind)
    place = _Place(name, commit, kind)
    files = place.files()
    if WEIGHTS in parts and not _first(files, WEIGHTS):
        files = place.ask()[1]  # the cached list may come from another program or a faulty hub
    chosen = list(dict.fromkeys(file for part in parts for file in _first(files, part)))
    if WEIGHTS in parts and not _first(files, WEIGHTS):
        raise RkdError(
            f"{place}: found no weights among {len(files)} files; expected model.safetensors or pytorch_model.bin"
        )
    digests = {file: place.checked(file, files[file]) for file in chosen}
    # A loader would also read other files in this folder.
    for path in sorted(place.folder.iterdir()) if chosen else ():
        if path.name not in {file.split("/")[0] for file in files} and not path.name.startswith("."):
            raise RkdError(f"{path}: found a file that {place} does not have; expected none; remove it")
    return Snapshot(name, commit, place.folder, digests)


@functools.cache
def resolve(name: str, revision: str | None = None, kind: Kind = "model") -> str:
    """Resolve a revision to a commit; the result is fixed for the process, even if a branch moves.

    A commit is returned without a request. For a branch or tag the hub is asked. If it does not answer, the last known
    commit is used, with a warning.

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
        reason = "HF_HUB_OFFLINE=1" if constants.HF_HUB_OFFLINE else "the hub does not answer"
        log.warning("%s: %s: using commit %s, the last one known here", name, reason, known)
        return known
    _keep(ref, commit)
    return commit


def local(source: ModelSource, revision: str | None = None, parts: tuple[tuple[str, ...], ...] = MODEL) -> ModelSource:
    """Download a model of the hub to the cache, verify it, and return its folder as the source.

    Args:
        source: any model reference; those of other kinds are returned unchanged.
        revision: its commit, branch or tag; by default the one in the reference.
        parts: as `snapshot`.
    """
    if source.kind != "hub":
        return source
    return ModelSource("folder", str(snapshot(source.location, revision or source.revision, parts).folder))


def commit_of(reference: str, revision: str | None = None) -> str | None:
    """Return the commit of a model reference of the kind `hub`; None for other kinds."""
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
        """Return all files of a commit, as listed in the cache or else by the hub."""
        return _read_list(self._list) or self.ask()[1]

    @property
    def _list(self) -> Path:
        return _list_of(self.name, self.kind, self.revision)

    def ask(self) -> tuple[str, dict[str, _File]]:
        """Ask the hub for the commit and its files, and store the list in the cache."""

        def ask() -> tuple[str, dict[str, _File]]:
            api = HfApi()
            about = api.dataset_info if self.kind == "dataset" else api.model_info
            info = about(self.name, revision=self.revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT)
            files = {
                each.rfilename: _File(each.size or 0, each.blob_id, each.lfs.sha256 if each.lfs else None)
                for each in info.siblings or ()
            }
            return str(info.sha), files

        commit, files = self._request(ask)
        if not COMMIT.fullmatch(commit) or (COMMIT.fullmatch(self.revision) and commit != self.revision):
            raise RkdError(f"{self}: the hub answered with commit {commit!r}; expected that revision")
        if not files:
            raise RkdError(f"{self}: the hub lists no files; expected those of a {self.kind}")
        _keep(_list_of(self.name, self.kind, commit), _list_text(files))
        return commit, files

    def checked(self, file: str, expected: _File) -> str:
        """Download a file unless it is cached, verify it against the hub's digest, and return its SHA-256."""
        path = self.folder / file
        if not path.is_file():
            self._download(file)
        content, problem = self._compare(path, expected)
        if problem and not constants.HF_HUB_OFFLINE:
            log.warning("%s; downloading it again", problem)
            expected = self.ask()[1].get(file, expected)
            self._download(file, again=True)
            content, problem = self._compare(path, expected)
        if problem and constants.HF_HUB_OFFLINE:
            raise RkdError(f"{problem}; HF_HUB_OFFLINE=1 does not allow downloading it again")
        if problem:
            for each in (path.resolve(), path):  # the blob and its link, so that no other program uses them
                each.unlink(missing_ok=True)
            raise RkdError(f"{problem}; a second download did not help, and the file was removed from the cache")
        return content

    def _compare(self, path: Path, expected: _File) -> tuple[str, str | None]:
        """Return the SHA-256 of a file, and the problem with its content, if any."""
        stated = expected.lfs_sha256 or expected.blob_id
        try:
            content = sha256(path)
            found = content if expected.lfs_sha256 else _git_digest(path.read_bytes())
        except OSError as error:
            raise RkdError(f"{path}: cannot be read: {error.strerror}; expected a file of {self}") from None
        if stated is None:
            log.warning("%s: the hub states no digest of %s; the file is used without verification", self, path.name)
        elif found != stated:
            return content, f"{path}: found content with the digest {found}; expected {stated}, that of {self}"
        return content, None

    def _download(self, file: str, again: bool = False) -> None:
        self._request(
            lambda: hf_hub_download(self.name, file, repo_type=self.kind, revision=self.revision, force_download=again)
        )

    def _request(self, ask: Callable[[], T]) -> T:
        """Return the hub's answer, with up to four attempts; any failure becomes an RkdError."""
        try:
            return _retried(ask)
        except _FAILURES as error:
            raise self._explained(error) from error

    def _explained(self, error: BaseException) -> RkdError:
        # The client reports a missing file; the reason why the download failed is the cause of that error.
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError | ValueError) else None
        if cause is not None and not isinstance(cause, json.JSONDecodeError):
            return self._explained(cause)
        if isinstance(error, OfflineModeIsEnabled):
            return Unreachable(
                f"{self}: not in the cache {_storage(self.name, self.kind)}, and HF_HUB_OFFLINE=1 does not allow "
                "asking the hub; expected a cache that `rkd fetch` has filled"
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
            problem = f"{self}: the hub answered {error.response.status_code}: {_reason(error)}"
            return (Unreachable if _is_transient(error) else RkdError)(
                f"{problem}; expected an answer, or a cache that `rkd fetch` has filled"
            )
        if isinstance(error, httpx2.HTTPError | httpx2.InvalidURL | XetDownloadError):
            return Unreachable(
                f"{self}: the hub {constants.ENDPOINT} cannot be reached: {_reason(error)}; expected a network, or a "
                "cache that `rkd fetch` has filled"
            )
        if isinstance(error, HFValidationError):
            return RkdError(f"{self}: not a valid repository name: {_reason(error)}; expected organisation/name")
        if isinstance(error, FileMetadataError | ValueError | TypeError | KeyError):
            return RkdError(
                f"{self}: the server at {constants.ENDPOINT} is not a hub: {_reason(error)}; expected the Hugging Face "
                "hub or a mirror of it (HF_ENDPOINT)"
            )
        where = getattr(error, "filename", None) or _storage(self.name, self.kind)
        return RkdError(f"{self}: cannot be downloaded to {where}: {_reason(error)}")


def _git_digest(content: bytes) -> str:
    """Return Git's blob id of a file's content, the digest that the hub states for small files."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _is_transient(error: BaseException) -> bool:
    """Return True for a failure that is worth a retry."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _TRANSIENT
    truncated = isinstance(error, OSError) and "Consistency check failed" in str(error)
    return truncated or (isinstance(error, httpx2.TransportError) and not isinstance(error, httpx2.ProxyError))


def _wait(state: tenacity.RetryCallState) -> float:
    """Return the seconds until the next attempt: 1, 2, 4, or what the hub asks for in Retry-After."""
    error = state.outcome.exception() if state.outcome else None
    retry_after = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    return min(float(retry_after), LONGEST_WAIT) if retry_after.isdigit() else 2.0 ** (state.attempt_number - 1)


def _log_retry(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    seconds = state.next_action.sleep if state.next_action else 0
    log.warning("hub: %s; retrying in %.0f s", _reason(error), seconds)


@tenacity.retry(
    retry=tenacity.retry_if_exception(_is_transient),
    stop=tenacity.stop_after_attempt(TRIES),
    wait=_wait,
    before_sleep=_log_retry,
    reraise=True,
)
def _retried(ask: Callable[[], T]) -> T:
    return ask()


def _reason(error: BaseException | None) -> str:
    """Return the first line of an error's message, without request ids."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r" \((Request ID|Amzn Trace ID|Amz CF ID): [^)]*\)", "", lines[0]) if lines else type(error).__name__


def _storage(name: str, kind: Kind) -> Path:
    return Path(constants.HF_HUB_CACHE).absolute() / repo_folder_name(repo_id=name, repo_type=kind)


def _first(files: Iterable[str], alternatives: tuple[str, ...]) -> list[str]:
    """Return the files that match the first alternative with any match."""
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
    """Read the list of a commit's files from the cache; None if it is missing or invalid."""
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
    """Write text to the cache to avoid a later request; a read-only cache is left unchanged."""
    with contextlib.suppress(OSError, RkdError):
        if not (path.is_file() and path.read_text(encoding="utf-8") == text):
            atomic_write_text(path, text)
