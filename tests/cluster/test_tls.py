"""Two Ray nodes that speak TLS, with certificates made by the commands of the documentation and of cluster.yaml."""

import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cluster.demo import clips
from cluster.runtime.ray_node import free_port
from cluster.store.postgres.connections import EmbeddedPostgres
from tests.support.command_line import CommandLine, make_environment

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
NODES = """
import sys
from ray.cluster_utils import Cluster

cluster = Cluster()
memory = 200 * 2**20
ports = {"gcs_server_port": int(sys.argv[1]), "dashboard_port": int(sys.argv[2])}
cluster.add_node(num_cpus=0, include_dashboard=True, object_store_memory=memory, **ports)
cluster.add_node(num_cpus=2, object_store_memory=memory)
cluster.wait_for_nodes()
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""With it a client of gRPC begins: the preface of HTTP/2 and an empty SETTINGS frame (RFC 9113, 3.4)."""


@pytest.fixture(scope="module")
def home(cluster_folder: Path) -> Path:
    """A home directory as a node has it after the set-up of cluster.yaml."""
    return _with_certificates(cluster_folder / "tls")


def _with_certificates(home: Path) -> Path:
    """Run the page's commands for an authority and the launcher's for a node."""
    home.mkdir(parents=True)
    page = (ROOT / "docs" / "how-to" / "several-machines.md").read_text()
    (authority,) = [block for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "openssl req -x509" in block]
    setup = yaml.safe_load((ROOT / "cluster.yaml").read_text())["setup_commands"]
    (node,) = [command for command in setup if "node.key" in command and "openssl" in command]
    for command in (authority, node):
        environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
        subprocess.run(["bash", "-e", "-c", command], env=environment, check=True, capture_output=True)
    keys = [home / ".heimdex" / "tls" / name for name in ("ca.key", "node.key")]
    assert [path.stat().st_mode & 0o077 for path in keys] == [0, 0]
    return home


@pytest.fixture(scope="module")
def tls_environment(home: Path) -> dict[str, str]:
    folder = home / ".heimdex" / "tls"
    return {
        **make_environment(home),
        "RAY_AUTH_MODE": "token",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # keeps Ray on 127.0.0.1
        "RAY_USE_TLS": "1",
        "RAY_TLS_SERVER_CERT": str(folder / "node.crt"),
        "RAY_TLS_SERVER_KEY": str(folder / "node.key"),
        "RAY_TLS_CA_CERT": str(folder / "ca.crt"),
    }


@pytest.fixture(scope="module")
def address(home: Path, tls_environment: dict[str, str]) -> Iterator[str]:
    """A head without CPUs and a second node with two, of one process that ends them."""
    program = [sys.executable, "-c", NODES, str(free_port()), str(free_port())]
    log = home / "nodes.log"
    with log.open("w") as errors:
        nodes = subprocess.Popen(
            program, env=tls_environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        assert nodes.stdout is not None
        address = nodes.stdout.readline().strip()
        assert address.startswith("127.0.0.1:"), log.read_text()
        yield address
    finally:
        nodes.communicate(timeout=60)


def test_tls_between_two_nodes_carries_a_video(address: str, tls_environment: dict[str, str], home: Path) -> None:
    database = EmbeddedPostgres(home / "postgres")
    settings = {
        "HEIMDEX_RAY_ADDRESS": address,
        "HEIMDEX_DATABASE_URL": database.start(),
        "HEIMDEX_SCENES_URL": str(home / "scenes"),
    }
    heimdex = CommandLine({**tls_environment, **settings}, home)
    assert heimdex.run("migrate").returncode == 0
    started = heimdex.run("up")
    try:
        assert started.returncode == 0, started.stderr
        (result,) = heimdex.json("process", str(clips()[0]))
    finally:
        heimdex.run("down")
        database.stop()
    assert result["status"] == "READY", result
    assert result["scenes"]


def test_server_refuses_who_has_no_certificate_of_ours(address: str, home: Path, tmp_path: Path) -> None:
    ours = home / ".heimdex" / "tls"
    other = _with_certificates(tmp_path / "other") / ".heimdex" / "tls"
    assert _answer(address, _context(ours, ours)), "a node's certificate is accepted"
    assert _answer(address, None) == b"", "without TLS"
    assert _answer(address, _context(ours, None)) == b"", "without a certificate"
    assert _answer(address, _context(ours, other)) == b"", "with one of another authority"


def test_node_refuses_a_server_of_another_authority(address: str, home: Path, tmp_path: Path) -> None:
    ours = home / ".heimdex" / "tls"
    other = _with_certificates(tmp_path / "other") / ".heimdex" / "tls"
    with pytest.raises(ssl.SSLCertVerificationError):
        _answer(address, _context(other, ours))


def _context(trusted: Path, own: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(trusted / "ca.crt"))
    context.set_alpn_protocols(["h2"])
    if own is not None:
        context.load_cert_chain(own / "node.crt", own / "node.key")
    return context


def _answer(address: str, context: ssl.SSLContext | None) -> bytes:
    """The answer of a gRPC server to the start of HTTP/2; nothing when it closes the connection."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        try:
            with connection if context is None else context.wrap_socket(connection, server_hostname=host) as stream:
                stream.sendall(PREFACE)
                return stream.recv(9)
        except ssl.SSLCertVerificationError:
            raise
        except (ssl.SSLError, ConnectionError):
            return b""
