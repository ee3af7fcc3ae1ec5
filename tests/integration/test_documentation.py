"""The page /docs in a real browser: it shows the routes and requests nothing from any other server."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from serve_app.routes.documentation import FILES
from tests.support.api_client import ApiMaker
from tests.support.missing_part import skip_but_on_ci
from tests.support.served_api import serving

NAME = "heimdex.example"
"""A name as a server has it in a network: Swagger UI treats `localhost` in another way."""


@pytest.fixture
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    return found or skip_but_on_ci("no Chromium on this machine: install chromium")


def test_page_and_its_files_come_from_here(api: TestClient) -> None:
    page = api.get("/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {f"docs/{name}" for name in FILES} | {"openapi.json"} == set(named)
    for name, (path, media_type) in FILES.items():
        answer = api.get(f"/docs/{name}")
        assert (answer.status_code, answer.content) == (200, path.read_bytes())
        assert answer.headers["content-type"].partition(";")[0] == media_type
    for other in ("nothing.js", "page.html", "..%2fapp.py", "%2e%2e", "redoc.standalone.js"):
        assert api.get(f"/docs/{other}").status_code == 404
    assert api.get("/").headers["location"] == "docs"


def test_pages_that_load_from_elsewhere_are_gone(api: TestClient) -> None:
    assert [api.get(path).status_code for path in ("/redoc", "/docs/oauth2-redirect")] == [404, 404]


def test_documentation_is_off_where_it_is_not_wanted(make_api: ApiMaker) -> None:
    api = make_api(documented=False)
    for path in ("/", "/docs", "/openapi.json", "/redoc", *(f"/docs/{name}" for name in FILES)):
        answer = api.get(path)
        assert (answer.status_code, answer.json()) == (404, {"detail": "There is nothing at this address."}), path
    assert api.get("/healthz").status_code == 200


def test_browser_asks_this_server_alone(make_api: ApiMaker, tmp_path: Path, chromium: str) -> None:
    with serving(make_api()) as (_, port):
        page = f"http://{NAME}:{port}/docs#/videos/submit_videos_v1_videos_post"
        seen = browse(chromium, page, port, tmp_path)
    assert "/v1/admin/overview" in seen.stdout
    assert "opblock-body" in seen.stdout, "Swagger UI has not drawn the route that the address names"
    said = [line for line in seen.stderr.splitlines() if "CONSOLE" in line]
    assert [line for line in said if "Content Security Policy" in line or "Uncaught" in line] == []
    asked = requested(tmp_path / "net.json", f"http://{NAME}:{port}")
    assert {f"http://{NAME}:{port}{path}" for path in ("/openapi.json", "/docs/swagger-ui.css")} <= asked
    assert {url for url in asked if urlsplit(url).netloc != f"{NAME}:{port}"} == set()


def browse(chromium: str, page: str, port: int, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Open the page; its DOM is on standard output, what its console says on standard error."""
    command = [
        chromium,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-default-apps",
        "--disable-sync",
        "--disable-extensions",
        "--enable-logging=stderr",
        f"--user-data-dir={folder / 'profile'}",
        f"--host-resolver-rules=MAP {NAME} 127.0.0.1",
        f"--log-net-log={folder / 'net.json'}",
        "--net-log-capture-mode=Default",
        "--virtual-time-budget=15000",
        "--window-size=1200,1600",
        f"--screenshot={folder / 'docs.png'}",
        "--dump-dom",
        page,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def requested(log: Path, origin: str) -> set[str]:
    """URLs that pages of an origin had the browser request, from its network log; its own requests are left out."""
    text = log.read_text()
    try:
        whole: dict[str, Any] = json.loads(text)
    except json.JSONDecodeError:  # it ended without closing the list
        whole = json.loads(text.rstrip().rstrip(",") + "]}")
    events = [event.get("params", {}) for event in whole["events"]]
    return {event["url"] for event in events if event.get("initiator") == origin and "url" in event}
