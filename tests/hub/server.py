"""A Hugging Face hub on loopback: its protocol as far as clients download by it, with faults on demand.

Small files are answered as the hub does, by a redirect on the same host; large ones (Git LFS) by a redirect to another
host, the CDN. Here that is the same server under the name localhost.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".parquet")


@dataclass
class Repository:
    """A model or data set: files by commit, and the commits that names mean."""

    name: str
    kind: str = "model"
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False

    def copy(self) -> "Repository":
        """Another one with the same content, to be changed."""
        return replace(self, commits=dict(self.commits), refs=dict(self.refs))

    def commit(self, files: dict[str, bytes], digest: str | None = None, ref: str = "main") -> str:
        """Add a commit, under a given digest or one of its content, and let a name mean it."""
        digest = digest or hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits[digest] = files
        self.refs[ref] = digest
        return digest


@dataclass
class Fault:
    """A fault of the first requests that a pattern fits.

    Attributes:
        path: regular expression that is looked for in "METHOD PATH".
        status: answer with this code instead.
        headers: of that answer.
        body: answer with this text and code 200 instead.
        delay: seconds before the answer.
        cut: bytes of the content after which the connection is closed.
        truncate: bytes of the content that are left out, with a length that fits the rest.
        flip: position of a byte of the content whose lowest bit is flipped.
        times: requests; all by default.
    """

    path: str
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    delay: float = 0.0
    cut: int | None = None
    truncate: int = 0
    flip: int | None = None
    times: int = 1_000_000


class Hub:
    """The server. `requests` lists all that was asked of it, `unknown` what no hub has."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.unknown: list[str] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.port = self._server.server_address[1]
        self.endpoint, self.cdn = f"http://127.0.0.1:{self.port}", f"http://localhost:{self.port}"
        self._blobs: dict[str, bytes] = {}

    def add(self, repository: Repository) -> Repository:
        """Put a repository on the hub, in the place of one of that name."""
        self.repositories[repository.kind, repository.name] = repository
        return repository

    @contextmanager
    def serving(self) -> Iterator["Hub"]:
        """The block in which the hub answers."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()

    def reset(self) -> None:
        """Forget faults and requests."""
        self.faults, self.requests, self.unknown = [], [], []

    def environment(self, home: Any, **more: str) -> dict[str, str]:
        """The variables of a process that knows this hub alone: all else goes to a proxy, which is this hub too."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"), self.endpoint),
            **dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost"),
            **more,
        }

    def _fault(self, request: str) -> Fault | None:
        with self._lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.path, request):
                    fault.times -= 1
                    return fault
        return None


@dataclass
class _Error(Exception):
    status: int
    code: str
    text: str


def git_digest(content: bytes) -> str:
    """The name that Git gives to a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(path: str, content: bytes) -> dict[str, Any]:
    """A file as the endpoints tree and paths-info describe it."""
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git_digest(content)}
    if path.endswith(LARGE):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return entry


def _sibling(path: str, content: bytes) -> dict[str, Any]:
    """A file as the info endpoint describes it."""
    entry = _entry(path, content)
    large = {"lfs": {**entry["lfs"], "sha256": entry["lfs"]["oid"]}} if "lfs" in entry else {}
    return {"rfilename": path, "size": entry["size"], "blobId": entry["oid"], **large}


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self._serve()

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def do_CONNECT(self) -> None:
            self._unknown()

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = f"{self.command} {unquote(parts.path)}"
            fault = hub._fault(request) or Fault("")
            threading.Event().wait(fault.delay)  # not time.sleep, which tests of this process replace
            try:
                if parts.scheme:  # as a proxy is asked: for something outside
                    self._unknown()
                elif fault.status is not None:
                    self._answer(fault.status, b"{}", fault.headers)
                elif fault.body is not None:
                    self._answer(200, fault.body.encode(), {"Content-Type": "text/html"})
                else:
                    self._route(unquote(parts.path), parts.query, sent, fault)
            except _Error as error:
                headers = {"X-Error-Code": error.code, "X-Error-Message": error.text}
                self._answer(error.status, json.dumps({"error": error.text}).encode(), headers)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def _unknown(self) -> None:
            with hub._lock:
                hub.unknown.append(f"{self.command} {self.path}")
            self._answer(404, b"{}", {})

        def _route(self, path: str, query: str, sent: bytes, fault: Fault) -> None:
            if match := re.fullmatch(
                r"/api/(model|dataset)s/(.+?)(?:/(revision|tree|paths-info)/([^/]+|refs/.+))?", path
            ):
                kind, name, what, revision = match.groups()
                repository, commit = self._find(kind, name, revision or "main", gated=False)
                files = repository.commits[commit]
                if what == "tree":
                    return self._json([_entry(*each) for each in files.items()])
                if what == "paths-info":
                    asked = json.loads(sent)["paths"]
                    return self._json([_entry(path, files[path]) for path in asked if path in files])
                siblings = [_sibling(*each) if "blobs" in query else {"rfilename": each[0]} for each in files.items()]
                return self._json({"id": name, "sha": commit, "siblings": siblings, "gated": repository.gated})
            if match := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+|[^/]+)/resolve/(refs/[^/]+/[^/]+|[^/]+)/(.+)", path):
                kind, name, revision, file = match.groups()
                return self._resolve("dataset" if kind else "model", name, revision, file)
            if match := re.fullmatch(r"/api/resolve-cache/(model|dataset)s/(.+)/([0-9a-f]{40})/(.+)", path):
                kind, name, commit, file = match.groups()
                content = self._find(kind, name, commit)[0].commits[commit][file]
                return self._content(content, {"X-Repo-Commit": commit, "ETag": f'"{git_digest(content)}"'}, fault)
            if match := re.fullmatch(r"/cdn/([0-9a-f]{64})", path):
                return self._content(hub._blobs[match[1]], {"ETag": f'"{match[1]}"'}, fault)
            return self._unknown()

        def _find(self, kind: str, name: str, revision: str, gated: bool = True) -> tuple[Repository, str]:
            repository = hub.repositories.get((kind, name))
            if repository is None:
                raise _Error(401, "RepoNotFound", "Repository not found")
            if gated and repository.gated:
                raise _Error(403, "GatedRepo", f"Access to {kind} {name} is restricted")
            commit = repository.refs.get(revision, revision)
            if commit not in repository.commits:
                raise _Error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return repository, commit

        def _resolve(self, kind: str, name: str, revision: str, file: str) -> None:
            repository, commit = self._find(kind, name, revision)
            content = repository.commits[commit].get(file)
            if content is None:
                raise _Error(404, "EntryNotFound", "Entry not found")
            headers = {"X-Repo-Commit": commit}
            if file.endswith(LARGE):
                digest = hashlib.sha256(content).hexdigest()
                hub._blobs[digest] = content
                headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
                return self._answer(302, b"", {**headers, "Location": f"{hub.cdn}/cdn/{digest}"})
            where = f"/api/resolve-cache/{kind}s/{name}/{commit}/{file}"
            headers |= {"ETag": f'"{git_digest(content)}"', "Location": where}
            return self._answer(307, b"", headers)

        def _content(self, content: bytes, headers: dict[str, str], fault: Fault) -> None:
            if fault.flip is not None:
                content = content[: fault.flip] + bytes([content[fault.flip] ^ 1]) + content[fault.flip + 1 :]
            whole, status = len(content) - fault.truncate, 200
            content = content[:whole]
            if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                start, stop = int(match[1]), min(int(match[2] or whole - 1), whole - 1)
                content, status = content[start : stop + 1], 206
                headers |= {"Content-Range": f"bytes {start}-{stop}/{whole}"}
            self._answer(status, content, {**headers, "Accept-Ranges": "bytes"}, fault.cut)

        def _json(self, value: Any) -> None:
            self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _answer(self, status: int, content: bytes, headers: dict[str, str], cut: int | None = None) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content if cut is None else content[:cut])
            if cut is not None and self.command != "HEAD":
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(2)

    return Handler
