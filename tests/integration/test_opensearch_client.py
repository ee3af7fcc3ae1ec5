"""OpenSearch behind TLS and a password, as clusters have it: a refusal is reported, and what to set."""

import base64
import http.client
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cluster.contracts.errors import SearchUnavailable
from cluster.contracts.search import EngineAddress
from cluster.store.opensearch.client import check_engine, open_client

USER, PASSWORD = "heimdex", "p@ss:word"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that signs itself, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "certificate.pem"
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file


@pytest.fixture
def guarded_url(opensearch_url: str, certificate: Path) -> Iterator[str]:
    """The real server behind a door of its own, that wants TLS and a password."""
    behind = urlsplit(opensearch_url)
    wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers["Authorization"] != wanted:
                self.send_error(401)
                return
            assert behind.hostname
            server = http.client.HTTPConnection(behind.hostname, behind.port)
            server.request("GET", self.path)
            answer = server.getresponse()
            body = answer.read()
            server.close()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    door = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    door.socket = context.wrap_socket(door.socket, server_side=True)
    thread = threading.Thread(target=door.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{door.server_port}"
    door.shutdown()
    thread.join()
    door.server_close()


def test_with_the_right_password_and_certificate_it_answers(guarded_url: str, certificate: Path) -> None:
    check_engine(open_client(EngineAddress(guarded_url, USER, PASSWORD, certificate)))


def test_a_wrong_password_is_told_by_its_settings(guarded_url: str, certificate: Path) -> None:
    for user, password in ((USER, "wrong"), (None, None)):
        with pytest.raises(SearchUnavailable, match="wants another HEIMDEX_OPENSEARCH_USER or HEIMDEX_OPENSEARCH_PASS"):
            check_engine(open_client(EngineAddress(guarded_url, user, password, certificate)))


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(guarded_url: str) -> None:
    with pytest.raises(SearchUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        check_engine(open_client(EngineAddress(guarded_url, USER, PASSWORD)))


def test_a_password_is_not_shown() -> None:
    assert PASSWORD not in repr(EngineAddress("https://search:9200", USER, PASSWORD))
