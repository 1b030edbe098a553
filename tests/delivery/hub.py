"""A small Hub: the part of its HTTP API that creating a repository, committing to it, asking for commits and fetching a
dataset's files need, with files kept in memory.

After the calls that huggingface_hub makes (docs of the Hub's API: huggingface.co/docs/hub/api); small files come inside
the commit, weights by git LFS's basic transfer.
"""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from huggingface_hub import constants


@dataclass
class Hub:
    """What the server holds. `writers`: token → owners that it may write to."""

    url: str = ""
    writers: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"hf_me": ("me",)})
    private: dict[str, bool] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)
    """`models/owner/name`, or a revision of it as `models/owner/name@revision` → commit."""
    resolved: dict[str, bytes] = field(default_factory=dict)
    """`datasets/owner/name@commit/path` → a file to be fetched."""

    def resolve(self, path: str) -> tuple[str, str, bytes | None] | None:
        """(commit, commit/path, content) of `/datasets/owner/name/resolve/revision/path`; None for another address."""
        repo, verb, rest = path.removeprefix("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        if not verb:
            return None
        commit = self.heads.get(repo if revision == "main" else f"{repo}@{revision}", revision)
        return commit, f"{commit}/{file}", self.resolved.get(f"{repo}@{commit}/{file}")

    def post(self, path: str, token: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if token not in self.writers:
            return 401, {"error": "Invalid credentials"}
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization'] or self.writers[token][0]}/{asked['name']}"
            if repo.split("/")[0] not in self.writers[token]:
                return 403, {"error": "You don't have the rights to create a model under this namespace"}
            status = 409 if repo in self.files else 200
            self.files.setdefault(repo, {})
            self.private.setdefault(repo, asked.get("visibility") == "private" or bool(asked.get("private")))
            return status, {"url": f"{self.url}/{repo}", "error": "You already created this model repo"}
        if path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            upload = [{"upload": {"href": f"{self.url}/lfs/{entry['oid']}"}} for entry in objects]
            answers = [{**entry, "actions": action} for entry, action in zip(objects, upload, strict=True)]
            return 200, {"transfer": "basic", "objects": answers}
        repo, _, verb = path.removeprefix("/api/models/").removesuffix("/main").rpartition("/")
        if verb == "preupload":
            paths = [entry["path"] for entry in json.loads(body)["files"]]
            modes = {name: "lfs" if name.endswith(".safetensors") else "regular" for name in paths}
            return 200, {"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]}
        assert verb == "commit", path
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                self.commits.append(value["summary"])
            elif line["key"] == "file":
                self.files[repo][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.files[repo][value["path"]] = self.stored[value["oid"]]
        return 200, {"commitUrl": f"{self.url}/{repo}/commit/0", "commitOid": "0" * 40, "pullRequestUrl": None}


def logged_in(monkeypatch: pytest.MonkeyPatch, hub: Hub, home: Path) -> None:
    """Settings with which this process's huggingface_hub talks to the Hub of the test, as HF_ENDPOINT and its like set
    them in a process that starts with them."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setenv("HF_TOKEN", "hf_me")


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Serves a Hub on a free local port."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, status: int, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def do_POST(self) -> None:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            self._answer(*hub.post(self.path.partition("?")[0], token, self._body()))

        def do_PUT(self) -> None:
            hub.stored[self.path.removeprefix("/lfs/")] = self._body()
            self._answer(200, {})

        def _send_file(self, path: str) -> bool:
            found = hub.resolve(path)
            if found is None:
                return False
            commit, name, content = found
            self.send_response(200 if content is not None else 404)
            self.send_header("X-Repo-Commit", commit)
            if content is None:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("ETag", f'"{name}"'.replace("/", "-"))
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content or b"")
            return True

        def do_HEAD(self) -> None:
            assert self._send_file(self.path.partition("?")[0])

        def do_GET(self) -> None:
            if self._send_file(self.path.partition("?")[0]):
                return
            repo, _, revision = self.path.removeprefix("/api/").partition("?")[0].partition("/revision/")
            if (sha := hub.heads.get(f"{repo}@{revision}" if revision else repo)) is not None:
                self._answer(200, {"id": repo.partition("/")[2], "sha": sha})
                return
            repo = self.path.removeprefix("/api/models/").partition("?")[0].removesuffix("/revision/main")
            known = repo in hub.files
            self._answer(200 if known else 404, {"id": repo, "private": hub.private[repo]} if known else {})

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
