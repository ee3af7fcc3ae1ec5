"""Models that cannot be had are all named in one sentence, and a hub that does not answer costs seconds."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants as hub

from cluster.contracts.errors import ConfigurationError
from cluster.models import sources
from cluster.models.availability import NamedModels, check_models

LIMIT_S = 0.5
DEFAULTS = NamedModels("small", "ViT-B-32", "laion2b_s34b_b79k", "all-MiniLM-L6-v2")
ALL = ["speech model small", "vision model ViT-B-32/laion2b_s34b_b79k", "text model all-MiniLM-L6-v2"]


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is remembered of the hub, and nothing is cached of it."""
    monkeypatch.setattr(sources, "_silent_since_s", None)
    monkeypatch.setattr(sources, "HUB_TIMEOUT_S", LIMIT_S)
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def dripping_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A hub that sends a byte now and then, so that no limit between two bytes is ever reached; when it was asked."""
    asked: list[float] = []
    ended = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.1)

    def drip(connection: socket.socket) -> None:
        with connection:
            while not ended.wait(0.05):
                try:
                    connection.sendall(b"H")
                except OSError:
                    return

    def accept() -> None:
        while not ended.is_set():
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            asked.append(time.monotonic())
            threading.Thread(target=drip, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept)
    thread.start()
    monkeypatch.setattr(hub, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
    yield asked
    ended.set()
    thread.join()
    server.close()


class _Refusal(BaseHTTPRequestHandler):
    """What is between a machine without internet and the hub: it answers everything, and has nothing."""

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def refusing_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server in the hub's place that answers, and has no models."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Refusal)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(hub, "ENDPOINT", url)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/{revision}/{filename}"
    )
    yield
    server.shutdown()
    server.server_close()


def refusal(named: NamedModels) -> str:
    with pytest.raises(ConfigurationError) as raised:
        check_models(named)
    return str(raised.value)


def test_hub_answers_dripping_server_is_given_up_in_time(dripping_hub: list[float]) -> None:
    began_s = time.monotonic()
    assert not sources.hub_answers()
    assert time.monotonic() - began_s < LIMIT_S + 1


def test_hub_answers_silence_is_remembered(dripping_hub: list[float]) -> None:
    assert [sources.hub_answers() for _ in range(3)] == [False] * 3
    assert len(dripping_hub) == 1


def test_check_models_offline_names_all_and_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    sentence = refusal(DEFAULTS)
    assert all(model in sentence for model in ALL)
    assert "set HEIMDEX_MODELS=bundled" in sentence
    assert "\n" not in sentence


@pytest.mark.usefixtures("refusing_hub")
def test_check_models_names_what_an_answering_hub_lacks() -> None:
    assert sources.hub_answers()
    assert all(model in refusal(DEFAULTS) for model in ALL)


def test_check_models_names_the_missing_one_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    sentence = refusal(NamedModels("bundled", "bundled", None, "all-MiniLM-L6-v2"))
    assert ALL[2] in sentence
    assert not any(model in sentence for model in ("speech model", "vision model"))


def test_check_models_bundled_ones_pass(dripping_hub: list[float]) -> None:
    check_models(NamedModels("bundled", "bundled", None, "bundled"))
    assert dripping_hub == []
