"""Values of requests have one spelling, and patterns in the OpenAPI document say which."""

import re
from typing import Annotated, Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from cluster.contracts.errors import InvalidVideo
from cluster.contracts.uri_prefixes import HttpRules, UriPrefix
from cluster.contracts.uris import check_remote
from serve_app.routes.admin import RANGE_PATTERN
from serve_app.schemas.strict_values import Digits, Id, Time
from serve_app.schemas.uri_patterns import uri_pattern

ID = "5f0c7a52-6f4e-4a3a-9d0e-0f4f6f1f8c11"
WEB = uri_pattern(HttpRules())
ALL = uri_pattern(HttpRules(frozenset(["http", "https", "s3", "gs", "gcs", "az", "abfs"])))
OWNER = UUID("aaaaaaaa-0000-4000-8000-000000000002")
PREFIXES = tuple(map(UriPrefix.read, ["s3://uploads/{owner}/", "gs://a.b/shared", "az://c/x-{owner}-y/"]))
ANY_ID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
BELOW = HttpRules(frozenset(), PREFIXES)
URIS = [
    "https://example.org/talk.mp4",
    "HTTP://EXAMPLE.ORG:8080/a%20b/c d.mp4?X-Amz-Signature=0a&x=[1]#t=5",
    "https://my-bucket.s3.eu-central-1.amazonaws.com/ü/文.mp4",
    "https://xn--bcher-kva.example/a.mp4",
    "https://example.org",
    "https://example.org?a=b@c:d",
    "http://203.0.113.9:65535/a.mp4",
    "http://[2001:0db8:0000:0000:0000:0000:0000:0001]/a.mp4",
    "http://media_1/a.mp4",
    "https://" + "a" * 63 + ".example/",
]
NO_URIS = [
    "https://",
    "https:///a.mp4",
    "https://user@example.org/a.mp4",
    "https://user:password@example.org/a.mp4",
    "https://example.org:0/a.mp4",
    "https://example.org:65536/a.mp4",
    "https://127.1/a.mp4",
    "https://0x7f000001/a.mp4",
    "https://2130706433/a.mp4",
    "https://1.2.3.04/a.mp4",
    "https://1.2.3.256/a.mp4",
    "https://example..org/a.mp4",
    "https://-example.org/a.mp4",
    "https://example.org\\@127.0.0.1/",
    "https://exam%70le.org/",
    "https://example.org/\x00",
    "https://example.org/\x85",
    "https://" + "a" * 64 + ".example/",
    "/etc/passwd",
    "file:///etc/passwd",
    "a.mp4",
    "",
]


def is_read(kind: Any, value: object) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


def is_checked(uri: str) -> bool:
    try:
        check_remote(uri)
    except InvalidVideo:
        return False
    return True


def test_number_in_an_address_is_digits_alone() -> None:
    number = Annotated[int, Digits]
    assert [text for text in ("0", "7", "-3", "0012") if not is_read(number, text)] == []
    alike = ("", " 7", "7 ", "+7", "7.0", "1_000", "1e3", "0x7", "true", "null", "７", "7\n")
    assert [text for text in alike if is_read(number, text)] == []


def test_id_has_its_hyphens() -> None:
    assert is_read(Id, ID)
    assert is_read(Id, ID.upper())
    alike = (ID.replace("-", ""), f"{{{ID}}}", f"urn:uuid:{ID}", f" {ID}", f"{ID}\n", "", 7, None, True, b"0" * 16)
    assert [text for text in alike if is_read(Id, text)] == []


@pytest.mark.parametrize(
    "text",
    ["2026-01-31", "2026-01-31T12:00", "2026-01-31T12:00:00", "2026-01-31T12:00:00Z", "2026-01-31t12:00:00.5+01:00"],
)
def test_time_is_read_by_iso_8601(text: str) -> None:
    assert is_read(Time, text)


@pytest.mark.parametrize(
    "text", ["0", "1700000000", "1700000000.5", "2026", "2026-1-31", "2026-02-30", "20260131", "now", "", " 2026-01-31"]
)
def test_time_in_another_spelling_is_refused(text: str) -> None:
    assert not is_read(Time, text)


def test_pattern_of_a_range_is_every_range() -> None:
    wanted = {f"{days}d" for days in range(1, 366)}
    tried = {f"{days}d" for days in range(-1, 1100)} | {"01d", "d", "1", "1D", "1d ", "1.5d", "30d30d", "1d\n2d"}
    assert {text for text in tried if re.search(RANGE_PATTERN, text)} == wanted


def test_pattern_of_uris_is_what_is_read() -> None:
    assert WEB is not None
    assert [uri for uri in URIS if not re.search(WEB, uri) or not is_checked(uri)] == []
    assert [uri for uri in NO_URIS if re.search(WEB, uri)] == []
    assert ALL is not None
    for uri in ("s3://bucket/a.mp4", "S3://bucket", "gs://a.b-c_d/ü", "az://container/a.mp4", "abfs://c@account/a"):
        assert re.search(ALL, uri), uri
        assert is_checked(uri), uri
        assert not re.search(WEB, uri), uri
    for uri in ("s3://", "s3:///key", "s3://arn:aws:s3/key", "s3://b/key\x00", "az://", "ftp://host/a.mp4"):
        assert not re.search(ALL, uri), uri
    assert uri_pattern(HttpRules(frozenset(["file", "https"]))) is None


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.from_regex(ALL or "", fullmatch=True))
def test_uri_by_the_pattern_is_accepted(uri: str) -> None:
    assert is_checked(uri)


def test_pattern_of_prefixes_is_what_is_below_them() -> None:
    pattern = uri_pattern(BELOW)
    assert pattern is not None
    for uri in (
        f"s3://uploads/{OWNER}/a b/ü.mp4",
        f"S3://uploads/{OWNER}/a",
        "gs://a.b/shared/x",
        f"az://c/x-{OWNER}-y/a",
    ):
        assert re.search(pattern, uri), uri
        assert BELOW.refusal(uri, OWNER) is None, uri
    mine = f"s3://uploads/{OWNER}"
    wrong = [mine, f"{mine}/", f"{mine}/../a", f"{mine}/a//b", f"{mine}/%2e%2e/a", f"{mine}/a\\b", "s3://uploads/me/a"]
    wrong += ["gs://aXb/shared/x", "gs://a.b/sharedx", "s3://other/a", "https://example.org/a.mp4", f"{mine}/a\n"]
    assert [uri for uri in wrong if re.fullmatch(pattern, uri) or BELOW.refusal(uri, OWNER) is None] == []


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    st.from_regex(
        (uri_pattern(BELOW) or "").replace("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", str(OWNER)), fullmatch=True
    )
)
def test_uri_by_the_pattern_of_a_prefix_is_accepted(uri: str) -> None:
    assert BELOW.refusal(uri, OWNER) is None
    assert is_checked(uri)
