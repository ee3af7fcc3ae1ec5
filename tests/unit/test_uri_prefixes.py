"""Below which prefixes an owner may submit by HTTP, whatever is written to get out of them."""

from uuid import UUID

import pytest

from cluster.contracts.errors import ConfigurationError
from cluster.contracts.uri_prefixes import HttpRules, UriPrefix
from cluster.files.fetch_limits import http_rules
from cluster.settings import as_environment, load_settings

ANNA = UUID("aaaaaaaa-0000-4000-8000-00000000000a")
BEN = UUID("bbbbbbbb-0000-4000-8000-00000000000b")
UPLOADS = UriPrefix.read("s3://uploads/{owner}/")


@pytest.mark.parametrize(
    "key", ["a.mp4", "talks/a b.mp4", "50%.mp4", "a%20b.mp4", "a #1?.mp4", "a.mp4?versionId=7", "d\u00e9j\u00e0/..mp4"]
)
def test_prefix_own_file_is_covered(key: str) -> None:
    assert UPLOADS.covers(f"s3://uploads/{ANNA}/{key}", ANNA)
    assert UPLOADS.covers(f"S3://uploads/{ANNA}/{key}", ANNA)
    assert not UPLOADS.covers(f"s3://uploads/{ANNA}/{key}", BEN)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://uploads/{owner}",
        "s3://uploads/{owner}/",
        "s3://uploads//{owner}/a.mp4",
        "s3://uploads/./{owner}/a.mp4",
        "s3://uploads/{owner}-evil/a.mp4",
        "s3://uploads/{owner}.mp4",
        "s3://uploads/{upper}/a.mp4",
        "s3://uploads/{other}/a.mp4",
        "s3://UPLOADS/{owner}/a.mp4",
        "s3://uploads.evil/{owner}/a.mp4",
        "s3://uploads-private/{owner}/a.mp4",
        "s3://me@uploads/{owner}/a.mp4",
        "s3://uploads:80/{owner}/a.mp4",
        "s3a://uploads/{owner}/a.mp4",
        "gs://uploads/{owner}/a.mp4",
        "s3:/uploads/{owner}/a.mp4",
        " s3://uploads/{owner}/a.mp4",
        "s3://uploads\\{owner}/a.mp4",
        "s3://uploads/%7Bowner%7D/a.mp4",
        "s3://uploads/{owner}/../{other}/a.mp4",
        "s3://uploads/{owner}/..",
        "s3://uploads/{owner}/./a.mp4",
        "s3://uploads/{owner}//a.mp4",
        "s3://uploads/{owner}/a/",
        "s3://uploads/{owner}/a/../../{other}/b.mp4",
        "s3://uploads/{owner}/..\\{other}\\b.mp4",
        "s3://uploads/{owner}/%2e%2e/{other}/a.mp4",
        "s3://uploads/{owner}/%2E%2E%2F{other}/a.mp4",
        "s3://uploads/{owner}/%252e%252e/{other}/a.mp4",
        "s3://uploads/{owner}/%25252e%25252e/a.mp4",
        "s3://uploads/{owner}/a%2f%2fb.mp4",
        "s3://uploads/{owner}/%5c..%5cb.mp4",
        "s3://uploads/{owner}/a%00.mp4",
        "s3://uploads/{owner}/a\n.mp4",
        "s3://uploads/{owner}/?x=/../../{other}/a.mp4",
        "s3://private/a.mp4?x=s3://uploads/{owner}/a.mp4",
        "s3://private/s3://uploads/{owner}/a.mp4",
        "s3://uploads/a.mp4#{owner}/",
    ],
)
def test_prefix_other_file_is_not_covered(uri: str) -> None:
    named = uri.replace("{owner}", str(ANNA)).replace("{upper}", str(ANNA).upper()).replace("{other}", str(BEN))
    assert not UPLOADS.covers(named, ANNA)


def test_prefix_decoded_too_often_is_not_covered() -> None:
    assert not UPLOADS.covers(f"s3://uploads/{ANNA}/%{'25' * 20}2e", ANNA)


def test_prefix_without_slash_is_a_folder() -> None:
    for written in ("s3://uploads/{owner}", "S3://uploads/{owner}/"):
        assert UriPrefix.read(written) == UPLOADS
    bucket = UriPrefix.read("s3://user-{owner}")
    assert bucket.covers(f"s3://user-{ANNA}/a.mp4", ANNA)
    assert not bucket.covers(f"s3://user-{ANNA}x/a.mp4", ANNA)
    assert UriPrefix.read("gs://shared/films/").covers("gs://shared/films/a.mp4", BEN)


@pytest.mark.parametrize(
    "written",
    [
        "/srv/uploads/{owner}/", "file:///srv/{owner}/", "{owner}/", "https://example.org/{owner}/", "s3://", "s3:///a/",
        "s3://uploads/../{owner}/", "s3://uploads//{owner}/", "s3://uploads/{user}/", "s3://uploads/{owner/",
        "s3://uploads/%7Bowner%7D/", "s3://uploads/{owner}?x/", "s3://a\\b/", "s3://arn:aws:s3:::clips/",
        "s3://{owner}:x/",
    ],
)  # fmt: skip
def test_prefix_that_is_no_folder_refuses_to_start(written: str) -> None:
    with pytest.raises(ConfigurationError, match="HEIMDEX_HTTP_URI_PREFIXES"):
        load_settings(http_uri_prefixes=written)


def test_settings_accept_the_web_alone_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = http_rules(load_settings())
    assert rules == HttpRules()
    for uri in (
        "s3://clips/a.mp4",
        "gs://clips/a.mp4",
        "az://clips/a.mp4",
        "/a.mp4",
        "a.mp4",
        "file:///a.mp4",
        "S3://c/a",
    ):
        assert rules.refusal(uri, ANNA)
    for uri in ("http://example.org/a.mp4", "HTTPS://example.org/a.mp4"):
        assert rules.refusal(uri, ANNA) is None


def test_settings_prefixes_reach_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEIMDEX_HTTP_URI_PREFIXES", "s3://uploads/{owner}, gs://shared/films/")
    settings = load_settings()
    for name, value in as_environment(settings).items():
        monkeypatch.setenv(name, value)
    rules = http_rules(load_settings())
    assert rules.prefixes == (UPLOADS, UriPrefix.read("gs://shared/films"))
    refusal = rules.refusal(f"s3://uploads/{BEN}/a.mp4", ANNA)
    assert refusal == f"s3:// is accepted here only below s3://uploads/{ANNA}/"
