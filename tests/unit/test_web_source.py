"""The web is read from checked addresses only: under the asked name, within the allowed time and size."""

import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cluster.contracts.errors import InvalidVideo, TransientFailure
from cluster.contracts.uris import WebPlace, web_place
from cluster.files.storage import FetchLimits, fetch
from cluster.files.web_source import may_be_read
from tests.chaos.watched_network import PUBLIC, SERVER, watched_network
from tests.support.scripted_web import FILM, redirecting, serving

LIMITS = FetchLimits(max_bytes=100_000, timeout_s=10.0, private_networks=(ip_network(f"{SERVER}/32"),))


def refusal(uri: str, directory: Path, limits: FetchLimits = LIMITS) -> str:
    with pytest.raises(InvalidVideo) as caught:
        fetch(uri, directory, limits)
    return str(caught.value)


def hitch(uri: str, directory: Path, limits: FetchLimits = LIMITS) -> str:
    with pytest.raises(TransientFailure) as caught:
        fetch(uri, directory, limits)
    return str(caught.value)


def content(uri: str, directory: Path, limits: FetchLimits = LIMITS) -> bytes:
    return fetch(uri, directory, limits).path.read_bytes()


# Addresses


PUBLIC_ADDRESSES = """
    1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.0 172.32.0.1 192.0.1.1 192.31.196.1
    2606:4700:4700::1111 2620:4f:8000::1 64:ff9b::8.8.8.8
"""


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES.split())
def test_public_addresses_may_be_read(address: str) -> None:
    assert may_be_read(ip_address(address))


@pytest.mark.parametrize(
    ("address", "networks", "allowed"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("192.168.0.1", "10.0.0.0/8", False),
        ("fd00::1", "10.0.0.0/8 fd00::/8", True),
        ("127.0.0.1", "::/0", False),
        ("64:ff9b::10.1.2.3", "10.0.0.0/8", True),
        # An address that represents another opens nothing on its own.
        ("::ffff:10.1.2.3", "10.0.0.0/8", False),
        ("::ffff:127.0.0.1", "::/0", False),
        ("64:ff9b::7f00:1", "::/0", False),
        ("2002:7f00:1::", "::/0", False),
        ("fe80::1%1", "fe80::/10", False),
    ],
)
def test_a_network_is_opened_and_no_other(address: str, networks: str, allowed: bool) -> None:
    assert may_be_read(ip_address(address), tuple(ip_network(network) for network in networks.split())) == allowed


def test_refusal_names_host_and_remedy_but_no_address(tmp_path: Path) -> None:
    with watched_network({"intranet.test": [["10.1.2.3"]]}):
        assert refusal("http://intranet.test/a.mp4?signature=secret", tmp_path) == (
            "the host intranet.test leads to an address that is not public; "
            "HEIMDEX_PRIVATE_NETWORKS opens networks of one's own"
        )


# URLs


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("http://example.org", WebPlace("http", "example.org", 80, "/")),
        ("HTTPS://Example.ORG:8443/A b?c=%20&ü#d", WebPlace("https", "example.org", 8443, "/A%20b?c=%20&%C3%BC")),
        ("http://example.org?a=/b@c", WebPlace("http", "example.org", 80, "/?a=/b@c")),
        ("http://Bücher.example/\\", WebPlace("http", "xn--bcher-kva.example", 80, "/%5C")),
        ("http://例え.テスト/", WebPlace("http", "xn--r8jz45g.xn--zckzah", 80, "/")),
        ("http://my_bucket.3com.test/", WebPlace("http", "my_bucket.3com.test", 80, "/")),
        ("http://1.1.1.1:443/", WebPlace("http", "1.1.1.1", 443, "/")),
        ("https://[2606:4700:0::1111]/", WebPlace("https", "2606:4700::1111", 443, "/")),
    ],
)
def test_urls_are_read_in_one_way(uri: str, place: WebPlace) -> None:
    assert web_place(uri) == place


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("http://me:secret@a.test/b?c=secret", "a URL with user or password is not read: http://a.test/b"),
        ("http://a.test/\r\nX: y", "a URL with control characters is not read: http://a.test/\\x0d\\x0aX: y"),
        ("http://127.1/a", "the URL's host is neither a plain name nor a full address: http://127.1/a"),
        ("http://a.test:0/b", "not a URL: http://a.test:0/b"),
        ("http://%61.test/b", "not a URL: http://%61.test/b"),
    ],
)
def test_what_is_not_read_is_said_in_one_sentence(uri: str, sentence: str) -> None:
    with pytest.raises(InvalidVideo) as caught:
        web_place(uri)
    assert str(caught.value) == sentence


def test_host_header_has_brackets_and_port_only_where_needed() -> None:
    hosts = ["http://a.test:80", "http://a.test:443", "https://a.test:443", "https://[2606:4700::1]:80", "http://[::1]"]
    assert [web_place(uri).authority for uri in hosts] == [
        "a.test",
        "a.test:443",
        "a.test",
        "[2606:4700::1]:80",
        "[::1]",
    ]


# One look-up


def test_the_connection_goes_to_the_address_that_was_checked(tmp_path: Path) -> None:
    with serving(FILM) as web, watched_network({"rebound.test": [[SERVER], ["127.0.0.1"]]}) as watch:
        assert content(f"http://rebound.test:{web.port}/a?b", tmp_path) == b"film"
        assert (watch.asked, watch.seen()) == ({"rebound.test": 1}, [])
    [request] = web.asked
    assert request.startswith("GET /a?b HTTP/1.1\r\n")
    assert f"\r\nHost: rebound.test:{web.port}\r\n" in request


def test_a_name_that_was_public_is_not_asked_for_again(tmp_path: Path) -> None:
    with watched_network({"rebound.test": [[PUBLIC], ["127.0.0.1"]]}) as watch:
        uri = f"http://rebound.test:{watch.port}/a"
        assert hitch(uri, tmp_path) == f"cannot fetch {uri}: Connection refused"
        assert (watch.asked, watch.seen()) == ({"rebound.test": 1}, [])


def test_the_next_address_is_tried_when_nobody_is_at_the_first(tmp_path: Path) -> None:
    opened = replace(LIMITS, private_networks=(ip_network("127.0.0.0/8"), ip_network("::1")))
    with serving(FILM) as web, watched_network({"two.test": [["127.0.0.9", "::1", SERVER]]}) as watch:
        assert content(f"http://two.test:{web.port}/a", tmp_path, opened) == b"film"
        assert watch.asked == {"two.test": 1}


def test_a_name_that_is_not_known_is_worth_another_try(tmp_path: Path) -> None:
    with watched_network({"empty.test": [[]]}):
        assert hitch("http://gone.test/a", tmp_path).startswith("cannot fetch http://gone.test/a: ")
        assert hitch("http://empty.test/a", tmp_path).endswith("the host empty.test has no address")


def test_proxies_of_the_environment_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(FILM) as web, watched_network({"film.test": [[SERVER]]}) as watch:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{watch.port}")
        assert content(f"http://film.test:{web.port}/a", tmp_path) == b"film"
        assert watch.seen() == []


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for videos.test, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "videos.test")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("videos.test")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + private)
    return path


@pytest.fixture
def tls(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The server's side; ours trusts the certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_certificate_is_checked_for_the_name_sent_to_server(tmp_path: Path, tls: ssl.SSLContext) -> None:
    told: list[Any] = []
    tls.sni_callback = lambda _, name, __: told.append(name)
    with serving(FILM, tls) as web, watched_network({"videos.test": [[SERVER]], "other.test": [[SERVER]]}) as watch:
        assert content(f"https://videos.test:{web.port}/a", tmp_path) == b"film"
        assert "certificate verify failed" in hitch(f"https://other.test:{web.port}/a", tmp_path)
        assert "certificate verify failed" in hitch(f"https://{SERVER}:{web.port}/a", tmp_path)
        assert watch.asked == {"videos.test": 1, "other.test": 1}
    assert told == ["videos.test", "other.test", None]


def test_a_redirect_leads_from_http_to_https(tmp_path: Path, tls: ssl.SSLContext) -> None:
    to_safe = redirecting(lambda _: f"https://videos.test:{safe.port}/a")
    with serving(FILM, tls) as safe, serving(to_safe) as plain, watched_network({"videos.test": [[SERVER]]}):
        assert content(f"{plain.url}/1", tmp_path) == b"film"
        only_http = replace(LIMITS, allowed_schemes=frozenset({"http"}))
        assert refusal(f"{plain.url}/1", tmp_path, only_http).startswith("a redirect to https:// is not followed")


def test_no_redirect_leads_from_https_to_http(tmp_path: Path, tls: ssl.SSLContext) -> None:
    to_plain = redirecting(lambda _: f"{plain.url}/a")
    with serving(FILM) as plain, serving(to_plain, tls) as safe, watched_network({"videos.test": [[SERVER]]}):
        uri = f"https://videos.test:{safe.port}/1"
        assert refusal(uri, tmp_path) == f"a redirect to http:// is not followed: {uri}"
        assert plain.asked == []
