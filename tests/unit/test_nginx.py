"""docs/nginx.conf in a real nginx, with other ports and paths. The server behind it shows what it was sent."""

import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from cluster.runtime.ray_node import free_port, port_is_free
from tests.support.missing_part import skip_but_on_ci

SITE = Path(__file__).parents[2] / "docs" / "nginx.conf"
MAIN = """
daemon off; user root; worker_processes 1; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/heimdex.conf;
}}
"""
UP_WITHIN_S = 20.0


class _Api(BaseHTTPRequestHandler):
    """Answers with the headers and the length of what it was sent."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        shown = json.dumps({"headers": dict(self.headers), "length": len(body)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(shown)))
        self.end_headers()
        self.wfile.write(shown)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """The ports of HTTP and HTTPS."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        skip_but_on_ci("nginx is not installed: apt-get install nginx-light")
    folder = tmp_path_factory.mktemp("nginx")
    api = ThreadingHTTPServer(("127.0.0.1", 0), _Api)
    threading.Thread(target=api.serve_forever, daemon=True).start()
    http, https = free_port(), free_port()
    _write_site(folder, api.server_address[1], http, https)
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder))
    server = subprocess.Popen([program, "-p", str(folder), "-c", str(folder / "nginx.conf")])
    try:
        end_s = time.monotonic() + UP_WITHIN_S
        while port_is_free("127.0.0.1", https):
            assert server.poll() is None, "nginx refuses the configuration"
            assert time.monotonic() < end_s
            time.sleep(0.05)
        yield http, https
    finally:
        server.terminate()
        server.wait(20)
        api.shutdown()
        api.server_close()


def _write_site(folder: Path, api: int, http: int, https: int) -> None:
    key, certificate = folder / "key.pem", folder / "fullchain.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *names], check=True, capture_output=True)
    site = SITE.read_text()
    for ours, tests in {
        "listen 80;": f"listen 127.0.0.1:{http};",
        "listen 443 ssl;": f"listen 127.0.0.1:{https} ssl;",
        "    listen [::]:80;\n": "",
        "    listen [::]:443 ssl;\n": "",
        "127.0.0.1:8000": f"127.0.0.1:{api}",
        "/etc/ssl/heimdex/fullchain.pem": str(certificate),
        "/etc/ssl/heimdex/key.pem": str(key),
        "heimdex.example.org": "localhost",
    }.items():
        assert ours in site
        site = site.replace(ours, tests)
    (folder / "heimdex.conf").write_text(site)


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(verify=False, timeout=30.0) as client:
        yield client


def test_proxy_forwards_requests_by_tls(ports: tuple[int, int], client: httpx.Client) -> None:
    answer = client.get(f"https://localhost:{ports[1]}/v1/videos", headers={"Authorization": "Bearer token"})
    sent = answer.json()["headers"]
    assert (sent["Authorization"], sent["X-Forwarded-Proto"]) == ("Bearer token", "https")
    assert sent["X-Forwarded-For"] == "127.0.0.1"
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_proxy_sends_http_to_https(ports: tuple[int, int], client: httpx.Client) -> None:
    answer = client.get(f"http://localhost:{ports[0]}/v1/videos?limit=2")
    assert (answer.status_code, answer.headers["Location"]) == (301, "https://localhost/v1/videos?limit=2")


def test_proxy_takes_the_largest_body_and_no_larger(ports: tuple[int, int], client: httpx.Client) -> None:
    url, largest = f"https://localhost:{ports[1]}/v1/search", 8 * 2**20
    assert client.post(url, content=bytes(largest)).json()["length"] == largest
    assert client.post(url, content=bytes(largest + 1)).status_code == 413


def test_proxy_ends_requests_that_do_not_come(ports: tuple[int, int]) -> None:
    context = ssl._create_unverified_context()
    connection = socket.create_connection(("127.0.0.1", ports[1]), timeout=30)
    with context.wrap_socket(connection, server_hostname="localhost") as stream:
        stream.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        began_s = time.monotonic()
        assert stream.recv(1) == b""
        assert 5.0 < time.monotonic() - began_s < 25.0
