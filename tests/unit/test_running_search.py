"""Asking the cluster that is up: what is sent, what its refusals become, and when it is not asked at all."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import jwt
import pytest

from cluster import __version__
from cluster.cli.running_search import ask_cluster
from cluster.contracts.errors import SearchRefused, SearchTooSlow
from cluster.contracts.search import Retriever, Scope
from cluster.runtime import launch
from cluster.search.service import SearchRequest
from cluster.security.private_files import replace_private_file
from cluster.settings import Settings, load_settings

OWNER = UUID(int=7)
DATABASE = "postgresql://heimdex@127.0.0.1:5432/heimdex"
SECRET = "s" * 32
REQUEST = SearchRequest(Scope(OWNER), "low tide")
FOUND = {
    "query": "low tide",
    "corrected": None,
    "latency_ms": 12,
    "stands_out": True,
    "items": [
        {
            "scene_id": str(UUID(int=1)),
            "video_id": str(UUID(int=2)),
            "filename": "a.mp4",
            "uri": "file:///a.mp4",
            "scene_index": 3,
            "start_s": 1.5,
            "end_s": 2.5,
            "transcript_segment": "low tide",
            "marks": [{"start": 0, "end": 3}],
            "tags": ["sea"],
            "thumbnail_url": None,
            "words_rank": 1,
            "meaning_rank": None,
            "picture_rank": 2,
            "meaning_similarity": None,
            "picture_similarity": 0.5,
            "score": 0.03,
            "stands_out": True,
        }
    ],
    "next_cursor": None,
}


@dataclass
class Server:
    """A server that answers each request with one status and text, and remembers the requests."""

    status: int = 200
    text: str = json.dumps(FOUND)
    asked: list[tuple[str, str, dict[str, list[str]], bytes]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server() -> Iterator[Server]:
    kept = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            kept.asked.append((self.command, parts.path, parse_qs(parts.query), body))
            kept.tokens.append(self.headers["Authorization"].removeprefix("Bearer "))
            self.send_response(kept.status)
            self.end_headers()
            self.wfile.write(kept.text.encode())

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        kept.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield kept
        http.shutdown()
        thread.join()


@pytest.fixture
def settings(tmp_path: Path, server: Server) -> Settings:
    """Those of a cluster that is recorded as up, at the server's address."""
    made = load_settings(data_dir=tmp_path / "data", database_url=DATABASE, jwt_secret=SECRET)
    made.data_dir.mkdir(mode=0o700)
    record(made, http_url=server.url)
    return made


def record(settings: Settings, **changed: str) -> None:
    state = {"version": __version__, "database_url": DATABASE, "ray_address": "", "dashboard_url": None, "node": None}
    replace_private_file(settings.data_dir / launch.RECORD, json.dumps(state | {"http_url": ""} | changed))


def test_answer_of_the_cluster_is_read_whole(settings: Settings, server: Server) -> None:
    results = ask_cluster(settings, REQUEST, None)
    assert results is not None
    assert (results.query, results.latency_ms, results.stands_out, results.more) == ("low tide", 12, True, False)
    (hit,) = results.hits
    assert (hit.scene.scene_id, hit.scene.index, hit.scene.marks) == (UUID(int=1), 3, ((0, 3),))
    assert (hit.match.ranks, hit.match.score) == ({Retriever.WORDS: 1, Retriever.PICTURE: 2}, 0.03)
    assert hit.match.similarities == {Retriever.PICTURE: 0.5}
    assert server.asked == [
        ("GET", "/v1/search", {"q": ["low tide"], "by": ["meaning,picture,words"], "limit": ["10"]}, b"")
    ]


def test_token_is_the_owners_and_of_a_minute(settings: Settings, server: Server) -> None:
    ask_cluster(settings, REQUEST, None)
    claims = jwt.decode(server.tokens[0], SECRET, ["HS256"], audience="authenticated")
    assert (claims["sub"], claims["exp"] - claims["iat"]) == (str(OWNER), 60)


def test_scope_and_picture_are_sent(settings: Settings, server: Server) -> None:
    scope = Scope(OWNER, datetime(2026, 1, 31, tzinfo=UTC), ("sea", "sky"))
    ask_cluster(settings, SearchRequest(scope, "", by=frozenset({Retriever.PICTURE}), limit=3), b"a picture")
    sent = {"by": ["picture"], "limit": ["3"], "since": ["2026-01-31T00:00:00+00:00"], "tag": ["sea", "sky"]}
    assert server.asked == [("POST", "/v1/search/image", sent, b"a picture")]


@pytest.mark.parametrize(("status", "error"), [(400, SearchRefused), (504, SearchTooSlow)])
def test_refusal_of_the_cluster_is_the_commands(
    settings: Settings, server: Server, status: int, error: type[Exception]
) -> None:
    server.status, server.text = status, json.dumps({"detail": "One sentence."})
    with pytest.raises(error, match=r"^One sentence\.$"):
        ask_cluster(settings, REQUEST, None)


@pytest.mark.parametrize(
    ("status", "text", "said"),
    [
        (503, '{"detail": "The database is away."}', "(503: The database is away.)"),
        (429, '{"detail": "Too many."}', "(429: Too many.)"),
        (502, "<html>", "does not answer searches"),
    ],
)
def test_cluster_that_cannot_answer_leaves_it_to_the_command(
    settings: Settings, server: Server, capsys: pytest.CaptureFixture[str], status: int, text: str, said: str
) -> None:
    server.status, server.text = status, text
    assert ask_cluster(settings, REQUEST, None) is None
    error = capsys.readouterr().err
    assert said in error
    assert error.endswith("the models are loaded here\n")


def test_server_that_is_gone_leaves_it_to_the_command(
    settings: Settings, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    record(settings, http_url="http://127.0.0.1:9")
    assert ask_cluster(settings, REQUEST, None) is None
    assert "does not answer searches" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changed",
    [
        {"version": "0.0.1"},
        {"database_url": "postgresql://heimdex@127.0.0.1:5432/another"},
        {"http_url": "http://192.0.2.1:8000"},
    ],
    ids=["version", "database", "address"],
)
def test_other_cluster_is_not_asked(
    settings: Settings, server: Server, capsys: pytest.CaptureFixture[str], changed: dict[str, str]
) -> None:
    record(settings, **({"http_url": server.url} | changed))
    assert ask_cluster(settings, REQUEST, None) is None
    assert (server.asked, capsys.readouterr().err) == ([], "")


def test_cluster_of_every_address_is_asked_on_loopback(settings: Settings, server: Server) -> None:
    record(settings, http_url=server.url.replace("127.0.0.1", "0.0.0.0"))
    assert ask_cluster(settings, REQUEST, None) is not None


def test_cluster_that_trusts_other_keys_is_not_asked(settings: Settings, server: Server) -> None:
    trusting = load_settings(
        data_dir=settings.data_dir, database_url=DATABASE, jwks_url="https://keys.example.org/jwks.json"
    )
    assert ask_cluster(trusting, REQUEST, None) is None
    assert server.asked == []


def test_without_a_cluster_none_is_asked(settings: Settings, server: Server) -> None:
    (settings.data_dir / launch.RECORD).unlink()
    assert ask_cluster(settings, REQUEST, None) is None
    assert server.asked == []
