"""Models at the hub that are pinned to a revision, fetched by the hub's own client from a local server."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cluster.contracts.errors import ConfigurationError
from cluster.models.sources import split_revision

COMMITS = {"main": "a" * 40, "v1": "b" * 40, "b" * 40: "b" * 40, "a" * 40: "a" * 40}
FILES = {
    "Systran/faster-whisper-small": ("model.bin", "config.json"),
    "sentence-transformers/all-MiniLM-L6-v2": ("model.safetensors", "modules.json"),
    "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": ("open_clip_model.safetensors",),
}
ASK = {
    "speech": (
        "from cluster.models.speech import model_directory as f;show = lambda n: (f(n) / 'model.bin').read_text()"
    ),
    "text": (
        "from cluster.models.text_files import model_directory as f;"
        "show = lambda n: (f(n) / 'model.safetensors').read_text()"
    ),
    "vision": (
        "from cluster.models.vision import _architecture_source as f;"
        "show = lambda n: f'{(s := f(\"ViT-B-32\", n)).weights.read_text()} {s.version}'"
    ),
}
LOOP = """
import sys
for name in sys.argv[1:]:
    try:
        print(show(name))
    except Exception as error:
        print(error)
"""
NAMES = {"speech": "small", "text": "all-MiniLM-L6-v2", "vision": "laion2b_s34b_b79k"}


def _text(name: str, commit: str) -> str:
    return f"{name} of {commit[:4]}"


class _Hub(BaseHTTPRequestHandler):
    """The part of a hub that the client asks for: a repository's files at a revision, and each of them."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        for repository, files in FILES.items():
            for revision, commit in COMMITS.items():
                if self.path.startswith(f"/api/models/{repository}/tree/{revision}"):
                    tree = [
                        {"type": "file", "path": name, "size": len(_text(name, commit)), "oid": commit}
                        for name in files
                    ]
                    self._send(json.dumps(tree), commit, body=body)
                    return
                if self.path.startswith(f"/api/models/{repository}/revision/{revision}"):
                    siblings = [{"rfilename": name} for name in files]
                    self._send(json.dumps({"id": repository, "sha": commit, "siblings": siblings}), commit, body=body)
                    return
                for name in files:
                    if self.path == f"/{repository}/resolve/{revision}/{name}":
                        self._send(_text(name, commit), commit, body=body)
                        return
        if self.path == "/":
            self._send("", "", body=body)
            return
        self.send_error(404)

    def _send(self, text: str, commit: str, *, body: bool) -> None:
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def found(kind: str, hub: str, cache: Path, *names: str) -> list[str]:
    """The files found under each name by a process of its own, since the client reads its settings when imported."""
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_XET": "1"}
    program = [sys.executable, "-c", ASK[kind] + LOOP, *names]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("kind", ["speech", "text", "vision"])
def test_model_with_a_revision_is_that_revision(kind: str, hub: str, tmp_path: Path) -> None:
    name, commit = NAMES[kind], "b" * 40
    newest, tagged, pinned = found(kind, hub, tmp_path, name, f"{name}@v1", f"{name}@{commit}")
    assert " of aaaa" in newest
    assert " of bbbb" in tagged
    assert " of bbbb" in pinned
    assert kind != "vision" or pinned.endswith(f"@{commit}")
    cached, unknown = found(kind, "http://127.0.0.1:9", tmp_path, f"{name}@{commit}", f"{name}@v2")
    assert cached == pinned
    assert "could not be reached" in unknown


def test_revision_is_split_from_the_name() -> None:
    assert split_revision("owner/name") == ("owner/name", None)
    assert split_revision("owner/name@refs/pr/1") == ("owner/name", "refs/pr/1")


@pytest.mark.parametrize("name", ["name@", "@main", "name@ x", "name@a@b"])
def test_revision_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="commit, tag or branch"):
        split_revision(name)
