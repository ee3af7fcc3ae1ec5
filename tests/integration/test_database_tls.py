"""TLS to the database: verify-full lets in the right server alone, and every connection keeps the URL's parameters.

The embedded Postgres has no TLS: PgBouncer, a session for each client, speaks it in front of that server.
"""

import ipaddress
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cluster.cli.doctor_database import database_encryption
from cluster.contracts.errors import DatabaseUnavailable
from cluster.settings import load_settings
from cluster.store.postgres.connections import (
    EmbeddedPostgres,
    Encryption,
    advisory_lock,
    connect,
    encryption_of,
    open_pool,
)
from cluster.store.postgres.migrations import pending_migrations
from cluster.store.postgres.row_security import refuse_hidden_rows
from cluster.store.queue.notify import notifications
from serve_app.pools import open_api_pool
from tests.support.own_server import running
from tests.support.real_pgbouncer import RealPgBouncer


class Certificates:
    """An authority of the test, and a server's certificate for 127.0.0.1 that it signed."""

    def __init__(self, folder: Path, name: str = "an authority of the test") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.authority, self.key, self.certificate = (folder / name for name in ("ca.pem", "key.pem", "server.pem"))
        signer, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        root = _build(issuer, issuer, signer).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        server = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        leaf = _build(server, issuer, own).add_extension(names, critical=False)
        for file, builder in ((self.authority, root), (self.certificate, leaf)):
            file.write_bytes(builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(
            own.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


def _build(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )


class EncryptedServer(RealPgBouncer):
    """The pooler with TLS alone, and a session of the server for each client."""

    def __init__(self, folder: Path, server_url: str) -> None:
        super().__init__(folder, server_url)
        self.certificates = Certificates(folder / "tls")
        for file in (self.certificates.key, self.certificates.certificate, self.certificates.authority):
            file.chmod(0o644)

    def url(self, database: str) -> str:
        return self.encrypted(database, "require")

    def encrypted(self, database: str, mode: str, host: str = "127.0.0.1", authority: Path | None = None) -> str:
        plain = super().url(database).replace("127.0.0.1", host)
        return f"{plain}?sslmode={mode}" + (f"&sslrootcert={authority}" if authority else "")

    def _configuration(self) -> str:
        plain = super()._configuration().replace("pool_mode = transaction", "pool_mode = session")
        return plain.replace("default_pool_size = 4", "default_pool_size = 20") + (
            "client_tls_sslmode = require\n"
            f"client_tls_key_file = {self.certificates.key}\nclient_tls_cert_file = {self.certificates.certificate}\n"
        )


@pytest.fixture(scope="module")
def server(postgres_server: EmbeddedPostgres) -> Iterator[EncryptedServer]:
    with running(lambda folder: EncryptedServer(folder, postgres_server.url)) as started:
        yield started


@pytest.fixture
def verified_url(server: EncryptedServer, database_url: str) -> str:
    name = database_url.partition("?")[0].rpartition("/")[2]
    return server.encrypted(name, "verify-full", authority=server.certificates.authority)


def test_the_right_server_is_verified(verified_url: str) -> None:
    assert encryption_of(verified_url) is Encryption.VERIFIED
    (found,) = database_encryption(load_settings(database_url=verified_url))
    assert (found.ok, found.part) == (True, "database TLS")


def test_a_server_that_acknowledges_nothing_is_given_up_in_time(verified_url: str) -> None:
    with connect(verified_url) as connection, socket.socket(fileno=os.dup(connection.fileno())) as tcp:
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
        assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def test_every_kind_of_connection_is_encrypted(verified_url: str) -> None:
    assert pending_migrations(verified_url) == []
    refuse_hidden_rows(verified_url)
    with advisory_lock(verified_url, 7, name="tests") as held:
        assert held
    with closing(open_api_pool(verified_url)) as api, api.connection() as connection:
        assert connection.pgconn.ssl_in_use
    with open_pool(verified_url, max_size=1, name="tests") as pool, pool.connection() as connection:
        assert connection.pgconn.ssl_in_use
    assert next(notifications(verified_url, 0.01)).videos_wait  # the server takes no connection without TLS


@pytest.mark.parametrize("name", ["another authority", "an authority of the test"])
def test_an_authority_that_did_not_sign_is_refused(server: EncryptedServer, tmp_path: Path, name: str) -> None:
    other = Certificates(tmp_path / "other", name).authority
    refused(server.encrypted("postgres", "verify-full", authority=other), "not of the authority in sslrootcert")


def test_another_host_name_is_refused(server: EncryptedServer) -> None:
    url = server.encrypted("postgres", "verify-full", host="localhost", authority=server.certificates.authority)
    refused(url, "its certificate is for another host")


def test_a_missing_authority_is_refused(server: EncryptedServer, tmp_path: Path) -> None:
    refused(server.encrypted("postgres", "verify-full", authority=tmp_path / "none.pem"), "set sslrootcert to the file")


def test_a_connection_in_clear_text_is_not_made(server: EncryptedServer) -> None:
    refused(server.encrypted("postgres", "disable"), "SSL required")


def refused(url: str, said: str) -> None:
    for attempt in (lambda: connect(url), lambda: open_pool(url, max_size=1, name="tests")):
        with pytest.raises(DatabaseUnavailable) as caught:
            attempt()
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_what_is_encrypted_and_not_verified_is_said(server: EncryptedServer) -> None:
    assert encryption_of(server.encrypted("postgres", "require")) is Encryption.UNPROVEN
