"""A file on the web, read from no other place than a public one.

Owns which addresses may be connected to, redirects, and the time that all of it may take. Leaves how a URL is read to
``contracts.uris``, and what an answer says and brings to ``web_answer``, ``web_body`` and ``web_transfer``.

A user's URL must not make this machine read what only it can reach: its own services, its network, the metadata of its
cloud. So a host's name is resolved once, every address it has must be public and not this machine's, or in a network
that is opened on purpose, and the connection goes to one of the addresses that were checked; there is no second
look-up that could answer otherwise (DNS rebinding). Host header, SNI and the certificate's check keep the name. Every
redirect is checked the same way, and none leads from https to http. Proxies of the environment are not used: a proxy
looks names up on its own.
``http.client`` reads the answers: a stricter parser (h11, in httpx and httpcore) refuses heads that players and
browsers read, which tests/unit/test_web_answers.py lists.
The origin of the operator's storage root is the exception: it may have any address, and only
requests to it carry the root's key.
"""

import http.client
import io
import queue
import socket
import ssl
import string
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from types import MappingProxyType
from typing import Any

from cluster.contracts.errors import HeimdexError, InvalidVideo, SourceBusy
from cluster.contracts.uris import WebPlace, shown, web_place
from cluster.files.deadline import Deadline
from cluster.files.own_addresses import is_own
from cluster.files.storage_root import StorageRoot
from cluster.files.web_answer import check_storage, retry_after_s

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_REDIRECTS = 10
MOST_INFORMING = 20
_ANYWHERE: tuple[Network, ...] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
_REDIRECTS = {301, 302, 303, 307, 308}
_CONNECT_S = 10.0
LONGEST_PAUSE_S = 10.0
"""A server that asks to wait so shortly, before a redirect or in the middle of a file, is waited for where that is."""

# https://www.iana.org/assignments/iana-ipv4-special-registry and iana-ipv6-special-registry. Kept here because what
# ``is_global`` says differs between Python's versions (CVE-2024-4032: 192.0.0.0/24, 64:ff9b:1::/48 and 2002::/16 were
# public to the older ones), and in all of them multicast, 192.88.99.0/24 and 5f00::/16 are.
_NOT_PUBLIC_V4 = [
    IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # registered as public, but a machine in Azure reaches its host there
    )
]
_OWN = "the host {} leads to an address of this machine; HEIMDEX_PRIVATE_NETWORKS opens networks of one's own"
_PUBLIC_V6 = IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = [
    IPv6Network(network)
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")  # Teredo is in the first, 6to4 is 2002
]
_NAT64 = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class WebReach:
    """Where on the web may be read, and until when.

    ``schemes``: those that a redirect may lead to; never from https to http. ``private_networks``: allowed although
    they are not public. ``storage_root``: its origin may have any address, and requests to it carry its key.
    """

    deadline: Deadline
    schemes: frozenset[str]
    private_networks: tuple[Network, ...]
    storage_root: StorageRoot | None = None


@contextmanager
def open_web(
    uri: str, reach: WebReach, headers: Mapping[str, str] = MappingProxyType({})
) -> Iterator[http.client.HTTPResponse]:
    """Ask for ``uri``, with ``headers`` too, and follow its redirects; the answer is whatever comes at last.

    Every call looks names up and checks addresses again. Raises ``InvalidVideo`` for a place that may not be read,
    ``SourceBusy`` for one that leads back to itself until the server is ready, ``ConfigurationError`` when the storage
    refuses the key, ``TransientFailure``, ``OSError`` or ``http.client.HTTPException`` for what may pass.
    """
    place, root = web_place(uri), reach.storage_root
    asked: set[WebPlace] = set()
    for _ in range(MAX_REDIRECTS + 1):
        trusted = root if root is not None and root.covers(place) else None
        with _answer(place, reach, headers, trusted) as response:
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location:
                if trusted is not None:
                    check_storage(uri, response)
                yield response
                return
            wait_s = retry_after_s(response.headers)
        asked.add(place)
        place = _redirected(uri, place, location, reach.schemes)
        if wait_s is not None:
            if place in asked:
                raise SourceBusy(f"the server asks to come back to {shown(uri)} in {wait_s:,.0f} s", wait_s)
            reach.deadline.pause(min(wait_s, LONGEST_PAUSE_S))
    raise InvalidVideo(f"more than {MAX_REDIRECTS} redirects: {shown(uri)}")


def _redirected(uri: str, place: WebPlace, location: str, schemes: frozenset[str]) -> WebPlace:
    here = f"{place.scheme}://{place.authority}{place.target}"
    # Headers are read as ISO 8859-1, one character per byte; "%" stays what it is.
    there = urllib.parse.quote(location, encoding="iso-8859-1", safe=string.punctuation)
    try:
        there = urllib.parse.urljoin(here, there)
        scheme = urllib.parse.urlsplit(there).scheme
    except ValueError as error:
        raise InvalidVideo(f"redirected to what is not a URL: {shown(uri)}") from error
    if scheme not in schemes & {"http", "https"} or (place.scheme, scheme) == ("https", "http"):
        raise InvalidVideo(f"a redirect to {scheme[:20]}:// is not followed: {shown(uri)}")
    return web_place(there)


@contextmanager
def _answer(
    place: WebPlace, reach: WebReach, headers: Mapping[str, str], trusted: StorageRoot | None
) -> Iterator[http.client.HTTPResponse]:
    deadline = reach.deadline
    networks, key = (reach.private_networks, {}) if trusted is None else (_ANYWHERE, trusted.headers)
    with closing(_connected(place, deadline, networks)) as plain, closing(_secured(plain, place, deadline)) as sock:
        connection = http.client.HTTPConnection(place.host, place.port)
        connection.response_class = _LastAnswer
        connection.sock = _Wire(sock, deadline)
        asked = {"Host": place.authority, "User-Agent": "heimdex-cluster", "Accept": "*/*", "Connection": "close"}
        # http.client adds "Accept-Encoding: identity"
        connection.request("GET", place.target, headers={**asked, **headers, **key})
        with connection.getresponse() as response:
            yield response


def _secured(plain: socket.socket, place: WebPlace, deadline: Deadline) -> socket.socket:
    if place.scheme == "http":
        return plain
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    plain.settimeout(deadline.patience_s(_CONNECT_S))  # of the whole handshake
    return context.wrap_socket(plain, server_hostname=place.host)


class _LastAnswer(http.client.HTTPResponse):
    """The answer after all those that only inform (103 Early Hints); ``http.client`` itself passes over 100 alone."""

    def begin(self) -> None:
        for _ in range(MOST_INFORMING):
            super().begin()
            if not 100 <= self.status < 200 or self.status == http.client.SWITCHING_PROTOCOLS:
                return
            self.headers = None  # type: ignore[assignment]  # thus the next answer is read
        raise http.client.HTTPException(f"more than {MOST_INFORMING} answers that only inform")


class _Wire:
    """What ``http.client`` needs of a socket, with one deadline for all that goes through; closed by its owner."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(self._deadline.patience_s())
        self._sock.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self._sock, self._deadline))

    def close(self) -> None:
        """Nothing: the answer is still to be read."""


class _Incoming(io.RawIOBase):
    """Bytes from a socket. Each read waits no longer than the deadline, so that dripping headers do not outlast it."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return self._deadline.wait_for(partial(self._received, buffer))

    def _received(self, buffer: Any, wait_s: float) -> int:
        self._sock.settimeout(wait_s)
        return self._sock.recv_into(buffer)


def _connected(place: WebPlace, deadline: Deadline, networks: tuple[Network, ...]) -> socket.socket:
    addresses = _addresses(place, deadline)
    if not all(may_be_read(address, networks) for address in addresses):  # no picking: a mixed name is up to something
        raise InvalidVideo(
            f"the host {place.host} leads to an address that is not public; "
            "HEIMDEX_PRIVATE_NETWORKS opens networks of one's own"
        )
    unopened = {address for address in addresses if not _is_opened(address, networks)}
    if any(is_own(real) for address in unopened for real in (address, *_meant_by(address))):
        raise InvalidVideo(_OWN.format(place.host))
    failure: OSError = OSError(f"the host {place.host} has no address")
    for address in addresses:
        sock = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6)
        try:
            sock.settimeout(deadline.patience_s(_CONNECT_S))
            sock.connect((str(address), place.port))
            if address in unopened and sock.getsockname()[0] == sock.getpeername()[0]:  # became this machine's since
                raise InvalidVideo(_OWN.format(place.host))
        except OSError as error:
            sock.close()
            failure = error
        except HeimdexError:
            sock.close()
            raise
        else:
            return sock
    raise failure


def _addresses(place: WebPlace, deadline: Deadline) -> list[Address]:
    """Every address of the host, asked for once."""
    with suppress(ValueError):
        return [ip_address(place.host)]
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM))
        except (OSError, ValueError) as error:
            answers.put(error)

    # The resolver keeps its own time; only another thread can stop waiting for it.
    threading.Thread(target=ask, daemon=True, name="resolver").start()
    answer = deadline.wait_for(partial(_next_answer, answers))
    if isinstance(answer, Exception):
        raise answer
    return [_address(place_of_answer) for *_, place_of_answer in answer]


def _next_answer(answers: "queue.SimpleQueue[Any]", wait_s: float) -> Any:
    try:
        return answers.get(timeout=wait_s)
    except queue.Empty:
        raise TimeoutError from None


def _address(place: tuple[Any, ...]) -> Address:
    """The address of a socket address, with its scope if it has one."""
    written, _, *more = place
    scope = more[1] if more else 0
    return ip_address(f"{written}%{scope}" if scope and "%" not in written else written)


def may_be_read(address: Address, private_networks: tuple[Network, ...] = ()) -> bool:
    """Whether ``address`` is public or in one of the networks, and so is the IPv4 address that it may embed."""
    opened = _is_opened(address, private_networks)
    if isinstance(address, IPv4Address):
        return opened or (address.is_global and not any(address in network for network in _NOT_PUBLIC_V4))
    if address.scope_id is not None:
        return False
    meant = _meant_by(address)
    if address in _NAT64:
        return all(may_be_read(inner, private_networks) for inner in meant)
    public = address.is_global and address in _PUBLIC_V6 and not any(address in network for network in _NOT_PUBLIC_V6)
    return (opened or public) and all(may_be_read(inner, private_networks) for inner in meant)


def _is_opened(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _meant_by(address: Address) -> list[IPv4Address]:
    """The IPv4 addresses to which a packet for ``address`` may really go, where that is an IPv6 address."""
    if isinstance(address, IPv4Address):
        return []
    translated = IPv4Address(int(address) & 0xFFFF_FFFF) if address in _NAT64 else None
    meant = (address.ipv4_mapped, address.sixtofour, *(address.teredo or ()), translated)
    return [inner for inner in meant if inner is not None]
