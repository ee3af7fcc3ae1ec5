"""URIs that a user may not make this machine read, and the proof that none of them connects to anything.

Owns the list, and what counts as a violation: another outcome than ``InvalidVideo``, a connection, a message that
shows a password or is not one line, a file left behind. Leaves watching to ``watched_network``.
"""

import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path

from cluster.contracts.errors import InvalidVideo
from cluster.files.storage import FetchLimits, fetch
from tests.chaos.watched_network import PUBLIC, SERVER, Answers, Watch, watched_network

LIMITS = FetchLimits(
    max_bytes=10**6,
    timeout_s=5.0,
    allowed_schemes=frozenset({"http", "https", "s3"}),
    private_networks=(IPv4Network(f"{SERVER}/32"),),
)
PER_NETWORK = 6

NAMES: dict[str, list[Answers]] = {
    "loopback.test": [["127.0.0.1"]],
    "six.test": [["::1"]],
    "both.test": [["127.0.0.1", "::1"]],
    "private.test": [["10.0.0.1"]],
    "metadata.test": [["169.254.169.254"]],
    "shared.test": [["100.64.0.1"]],
    "unique-local.test": [["fd00:ec2::254"]],
    "mixed.test": [[PUBLIC, "127.0.0.1"]],
    "mixed-private.test": [[PUBLIC, "10.0.0.1"]],
    "mixed-first.test": [["127.0.0.1", PUBLIC]],
    "mixed-allowed.test": [[SERVER, "127.0.0.1"]],
    "hidden.test": [[f"93.184.215.{number}" for number in range(50)] + ["::1"]],
    "mapped.test": [["::ffff:127.0.0.1"]],
    "nat64.test": [["64:ff9b::7f00:1"]],
    "scoped.test": [["fe80::1%1"]],
    "scoped-public.test": [["2606:4700:4700::1111%1"]],
    "xn--bcher-kva.test": [["127.0.0.1"]],
    "_under-score.test": [["127.0.0.1"]],
    "rebound.test": [["127.0.0.1"], [PUBLIC]],
    "rebound-on-redirect.test": [[SERVER], ["127.0.0.1"]],
}

_HOSTS = {
    "loopback": "127.0.0.1 127.0.0.2 127.255.255.254 localhost LOCALHOST LocalHost [::1] [0:0:0:0:0:0:0:1]",
    "a dot at the end": "localhost. 127.0.0.1. loopback.test.",
    "a short address": "127.1 127.0.1 0 1 0.0",
    "an address as one number": "2130706433 0x7f000001 017700000001 0X7F000001 4294967296 18446744071560712193",
    "an address in another base": "0x7f.0.0.1 0177.0.0.1 127.0.0.0x1 0x7f.1 00000177.1 127.0.0.01 0x.0x.0 127.0.0.1.1",
    "digits beyond ASCII": "１２７.0.0.1 １２７。０。０。１ 127。0。0。1 ①②⑦.0.0.1 ١٢٧.0.0.1 127.0.0.１",
    "letters that become others": "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ ｌｏｃａｌｈｏｓｔ loopback.teſt ﬂoopback.test",
    "percent signs": "%31%32%37.0.0.1 127%2e0%2e0%2e1 localhost%00 localhost%2f %6cocalhost",
    "unspecified": "0.0.0.0 [::]",
    "metadata of clouds": "169.254.169.254 169.254.170.2 100.100.100.200 192.0.0.192 168.63.129.16 [fd00:ec2::254]",
    "IPv4 within IPv6": """
        [::ffff:127.0.0.1] [::ffff:7f00:1] [::127.0.0.1] [::ffff:0:127.0.0.1] [2002:7f00:1::] [64:ff9b::127.0.0.1]
        [64:ff9b::a9fe:a9fe] [64:ff9b:1::7f00:1] [2001:0:7f00:1:0:0:80ff:fffe] [::FFFF:169.254.169.254]
    """,
    "a scope": "[fe80::1%25lo] [fe80::1%lo] [::1%lo] [::1%1] [2606:4700:4700::1111%25lo]",
    "a name that leads there": "bücher.test " + " ".join(name for name in NAMES if not name.startswith("rebound-on")),
    "no name": '. .. ..localhost localhost..test -localhost localhost- a_b..c *.test a,b a;b (test) "test" <test>',
    "brackets": "[127.0.0.1] [localhost] [] [ ] [::1 ::1] [::1]] [[::1]] [v1.a] ::1 0:0:0:0:0:0:0:1 [::1]x x[::1]",
}
_URIS = {
    "a user": """
        http://me:secret@{trap}/a http://example.org@{trap}/a http://me:secret@[::1]:{port}/a
        http://{trap}@example.org/a http://@{trap}/a http://:@{trap}/a http://a@b@{trap}/
    """,
    "two readings of one URL": r"""
        http://example.org\@{trap}/ http://{trap}\@example.org/ http://{trap}#@example.org/
        http://{trap}?@example.org/ http://{trap}\.example.org/ http://localhost:{port}\a
        http://example.org:80:{port}/ http://{trap}:80/ http://{trap}%2f@x/
    """,
    "no host": "http:// https:// http:/// http:///{trap}/ http:////{trap}/ http://:{port}/ http://? http://#",
    "a port that is none": """
        http://127.0.0.1:0/ http://127.0.0.1:65536/ http://127.0.0.1:-1/ http://127.0.0.1:+80/
        http://127.0.0.1:9999999/ http://127.0.0.1:８０/ http://127.0.0.1:port/ http://127.0.0.1:/
        http://127.0.0.1:0x50/
    """,
    "letters of the scheme": "HTTP://{trap}/ hTTp://{trap}/ HTTPS://{trap}/ https://[::1]:{port}/",
    "a local name": r"""
        http:x http:/{trap}/ http:\\{trap}\ //{trap}/ /etc/passwd ~/.ssh/id_rsa file:///etc/passwd FILE:///etc/passwd
        file://127.0.0.1/etc/passwd url:http://{trap}/ . -
    """,
    "another scheme": """
        ftp://{trap}/ gopher://{trap}/_x dict://{trap}/ ldap://{trap}/ sftp://me:secret@{trap}/ smb://{trap}/x
        webhdfs://{trap}/x hdfs://{trap}/x rtmp://{trap}/ rtsp://{trap}/ tcp://{trap} ws://{trap}/
        jar:http://{trap}/!/ view-source:http://{trap}/ data://text/plain,x http+unix://%2Fvar%2Frun%2Fdocker.sock/x
        unix:///var/run/x concat:http://{trap}/ hls+http://{trap}/ github://a:b@c/ reference://x local:///etc/passwd
    """,
    "a chain": """
        zip://a::http://{trap}/ simplecache::http://{trap}/ filecache::http://{trap}/ s3::http://{trap}/x
        blockcache::s3://x/y s3://::http://{trap}/x http::http://{trap}/ s3://a::http://{trap}/x
    """,
    "no bucket": r"""
        s3://bucket@{trap}/x s3://{trap}/x s3://key:secret@{trap}/x s3:///x s3:// S3://{trap}/x s3://[::1]:{port}/x
        s3://?endpoint_url=http://{trap}/x s3://%31/x s3://a\@{trap}/x s3://http://{trap}/x s3://#/x s3://a/
        s3://ü-ü/x
    """,
    "an endpoint in an ARN": """
        s3://arn:aws:s3:us-east-1:123456789012:accesspoint:x/y
        s3://arn:aws:s3:evil.example:123456789012:accesspoint/x/y
        s3://arn:aws:s3-outposts:a:1:outpost/b/accesspoint/c/d
    """,
}
_WITH_WHITESPACE = {
    "a space": "http://127.0.0.1 :{port}/|http:// {trap}/| http://{trap}/|http://a b/|http ://a/",
    "a control character": "http://{trap}\r\nHost: x/|http://127.0.0.1\n:{port}/|\nhttp://{trap}/|"
    "http://127.0.0.1\t:{port}/|ht\ntp://{trap}/|http://{trap}/\r\nX: y|http://127.0.0.1\0.example.org/|"
    "\0http://{trap}/|http://{trap}/\x7f|http://example.org/\x85|http:/\t/{trap}/",
}

_LOCATIONS = {
    "a redirect there": """
        http://{trap}/a //{trap}/ HTTP://{trap}/ http://localhost:{port}/ http://[::1]:{port}/
        http://127.0.0.2:{port}/ http://169.254.169.254/latest/meta-data/ http://loopback.test:{port}/
        http://six.test:{port}/ http://mixed-allowed.test:{port}/ https://{trap}/ https://[::1]:{port}/
    """,
    "a redirect in disguise": r"""
        http://127.1:{port}/ http://2130706433:{port}/ http://0x7f.1:{port}/ http://127.0.0.1.:{port}/
        http://me:secret@{trap}/ http://[::ffff:127.0.0.1]:{port}/ http://%31%32%37.0.0.1:{port}/ http://１２７.0.0.1/
        http://127.0.0.3\@{trap}/ http:\\{trap}/ \\{trap}/ ///{trap}/ http:///127.0.0.1/ http:{trap}/ http://[::1
        http://127.0.0.1:port/
    """,
    "a redirect to another scheme": """
        file:///etc/passwd file:/etc/passwd ftp://{trap}/ gopher://{trap}/ data:text/plain,x javascript:1
        s3://bucket/a s3::http://{trap}/ jar:http://{trap}/
    """,
}

NETWORKS = {
    "this network": "0.0.0.0/8",
    "private": "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7",
    "shared by a carrier's customers": "100.64.0.0/10",
    "loopback": "127.0.0.0/8 ::1/128",
    "link-local": "169.254.0.0/16 fe80::/10",
    "protocol assignments": "192.0.0.0/24 2001::/23",
    "documentation": "192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32 3fff::/20",
    "6to4": "192.88.99.0/24 2002::/16",
    "benchmarks": "198.18.0.0/15 2001:2::/48",
    "multicast": "224.0.0.0/4 ff00::/8",
    "reserved": "240.0.0.0/4 255.255.255.255/32 4000::/3 8000::/3",
    "site-local": "fec0::/10",
    "discard-only": "100::/64 100:0:0:1::/64",
    "routing segments": "5f00::/16",
    "translated within one network": "64:ff9b:1::/48",
    "IPv4-compatible or mapped": "::/96 ::ffff:0:0/96 ::ffff:0:0:0/96",
}


@dataclass(frozen=True)
class Refused:
    """A URI that must be refused; ``{trap}`` is a listener, on ``{port}`` of 127.0.0.1. ``location``: where a server
    that may be read redirects to; its URL is the URI then.
    """

    uri: str
    why: str
    location: str | None = None


@dataclass(frozen=True)
class Counts:
    """The outcome of the list."""

    cases: int
    violations: list[str]


REFUSED = [
    *(Refused(f"http://{host}:{{port}}/a.mp4", why) for why, hosts in _HOSTS.items() for host in hosts.split()),
    *(Refused(uri, why) for why, uris in _URIS.items() for uri in uris.split()),
    *(Refused(uri, why) for why, uris in _WITH_WHITESPACE.items() for uri in uris.split("|")),
    *(Refused("", why, location) for why, places in _LOCATIONS.items() for location in places.split()),
]


def run(seed: int) -> Counts:
    """Fetch every URI of the list, and ``PER_NETWORK`` addresses by chance of every network, in an order by chance."""
    rng = random.Random(seed)
    cases = [*REFUSED, *_by_chance(rng)]
    rng.shuffle(cases)
    violations = []
    with watched_network(NAMES) as watch, tempfile.TemporaryDirectory() as folder:
        cases += [
            Refused(watch.redirect("http://rebound-on-redirect.test:{port}/"), "a name that leads elsewhere later"),
            Refused(watch.redirect(watch.redirect(watch.redirect("http://[::1]:{port}/"))), "the third redirect"),
            Refused(watch.redirect(f"/{len(watch.locations)}"), "a redirect to itself"),
        ]
        for case in cases:
            violations += [
                f"{case.why}: {case.location or case.uri!r}: {fault}" for fault in _faults(case, watch, folder)
            ]
    return Counts(len(cases), violations)


def _faults(case: Refused, watch: Watch, folder: str) -> Iterator[str]:
    uri = _filled(case.uri, watch) if case.location is None else watch.redirect(_filled(case.location, watch))
    try:
        fetch(uri, Path(folder), LIMITS)
        yield "fetched"
    except InvalidVideo as error:
        if "secret" in str(error) or not str(error).isprintable():
            yield f"message: {error}"
    except Exception as error:
        yield f"{type(error).__name__}: {error}"
    yield from watch.seen()
    if any(Path(folder).iterdir()):
        yield "left a file behind"


def _filled(text: str, watch: Watch) -> str:
    return text.replace("{trap}", f"127.0.0.1:{watch.port}").replace("{port}", str(watch.port))


def _by_chance(rng: random.Random) -> Iterator[Refused]:
    for why, networks in NETWORKS.items():
        for network in networks.split():
            for _ in range(PER_NETWORK):
                yield Refused(f"http://{_spelled(rng, network)}:{{port}}/", f"{why} ({network})")


def _spelled(rng: random.Random, network: str) -> str:
    """An address of the network, in a way of writing it by chance."""
    net = ip_network(network)
    value = int(net.network_address) + rng.randrange(net.num_addresses)
    if isinstance(net, IPv6Network):
        six = IPv6Address(value)
        return f"[{rng.choice([str(six), six.exploded, str(six).upper()])}]"
    four = str(IPv4Address(value))
    ways = [four, four, str(value), hex(value), f"0{value:o}", ".".join(f"0{int(part):o}" for part in four.split("."))]
    ways += [f"[::ffff:{four}]", f"[64:ff9b::{four}]", f"[2002:{value >> 16:x}:{value & 0xFFFF:x}::1]"]
    return rng.choice(ways)
