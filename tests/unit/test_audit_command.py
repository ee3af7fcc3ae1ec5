"""``make audit`` and ``make sbom``, the former against a local server that answers as OSV does."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.audit_command import main

HASHES = " \\\n    --hash=sha256:" + "0" * 64 + "\n"
ADVISORY = {
    "id": "GHSA-xxxx-yyyy-zzzz",
    "summary": "an example",
    "details": "an example",
    "published": "2024-01-01T00:00:00Z",
    "affected": [
        {
            "package": {"name": "jinja2", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.1.5"}]}],
            "versions": ["3.1.4"],
        }
    ],
}


class _Osv(BaseHTTPRequestHandler):
    """OSV's POST /v1/query: one package has an advisory, one is refused, the others have none."""

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = query["package"]["name"]
        body = json.dumps({"vulns": [ADVISORY]} if name == "jinja2" else {}).encode()
        self.send_response(500 if name == "broken" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def osv_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Osv)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1/query"
    server.shutdown()
    server.server_close()


def requirements(folder: Path, *pins: str) -> str:
    path = folder / "requirements.txt"
    path.write_text("".join(pin + HASHES for pin in pins))
    return str(path)


def test_audit_without_advisories_returns_0(osv_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pins = requirements(tmp_path, "werkzeug==3.1.9", "yarl==1.25.1")
    assert main(["--requirements", pins, "--osv-url", osv_url]) == 0
    assert capsys.readouterr().out == "2 packages audited, 0 advisories found.\n"


def test_audit_with_an_advisory_names_package_and_fix(
    osv_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pins = requirements(tmp_path, "jinja2==3.1.4", "yarl==1.25.1")
    assert main(["--requirements", pins, "--osv-url", osv_url]) == 1
    assert "jinja2 3.1.4: GHSA-xxxx-yyyy-zzzz, fixed in 3.1.5" in capsys.readouterr().out


@pytest.mark.parametrize("pins", [("broken==1.0",), ("yarl==1.25.1", "broken==1.0")])
def test_audit_whose_database_fails_is_no_success(
    osv_url: str, tmp_path: Path, pins: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--requirements", requirements(tmp_path, *pins), "--osv-url", osv_url]) == 2
    assert "audited" in capsys.readouterr().err


def test_audit_without_a_database_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    closed = "http://127.0.0.1:9/v1/query"
    assert main(["--requirements", requirements(tmp_path, "yarl==1.25.1"), "--osv-url", closed]) == 2
    assert f"No package was audited: {closed} could not be read" in capsys.readouterr().err
