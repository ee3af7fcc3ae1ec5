"""Fetches for a submission read what its origin may have, and nothing else."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from actors.stages.fetcher import Fetcher
from actors.workers.catalog import _MediaLoader
from actors.workers.configs import MediaConfig
from cluster.cli.forget_command import _without_file
from cluster.contracts.errors import InvalidVideo
from cluster.contracts.media import MediaLimits
from cluster.contracts.uri_prefixes import HttpRules, UriPrefix
from cluster.contracts.videos import Origin
from cluster.files.origins import limits_for
from cluster.files.storage import FetchLimits
from cluster.files.storage_root import StorageRoot
from cluster.store.videos.deletion import OwnVideo

ANNA, BEN = UUID(int=0xA), UUID(int=0xB)
MEDIA = MediaLimits(60.0, 10**7, 60.0, 8, 10**9)
Read = Callable[[str, Origin, FetchLimits], bytes]
OTHERS = [Origin.HTTP, Origin.ADOPTED]


@pytest.fixture
def limits(tmp_path: Path) -> FetchLimits:
    """A root with a file of each person and one of none."""
    for name in (f"{ANNA}/a.mp4", f"videos/{ANNA}/{BEN}/a.mp4", f"{BEN}/a.mp4", f"videos/{BEN}/a.mp4", "talks/a.mp4"):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_bytes(b"a video")
    prefixes = (UriPrefix.read("s3://uploads/{owner}/"),)
    root = StorageRoot(str(tmp_path / "root"))
    return FetchLimits(10**6, 5.0, storage_root=root, http=HttpRules(frozenset({"https"}), prefixes))


@pytest.fixture(params=["fetcher", "media worker"])
def read(request: pytest.FixtureRequest, tmp_path: Path) -> Read:
    """Has a kind of worker bring a file of Anna's."""

    def by_fetcher(uri: str, origin: Origin, limits: FetchLimits) -> bytes:
        return Fetcher(limits, tmp_path / "scratch", 1.0).fetch(uri, "key", ANNA, origin).path.read_bytes()

    def by_media_worker(uri: str, origin: Origin, limits: FetchLimits) -> bytes:
        worker = _MediaLoader(MediaConfig(MEDIA, limits, 288, 1))()
        return Path(worker.calls["locate"](uri, ANNA, origin).path).read_bytes()

    return by_fetcher if request.param == "fetcher" else by_media_worker


@pytest.mark.parametrize("origin", OTHERS)
def test_origin_of_others_reads_no_local_file(origin: Origin, limits: FetchLimits, read: Read, tmp_path: Path) -> None:
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"a secret")
    for uri in (str(secret), secret.as_uri(), f"FILE://localhost{secret}", f"//{secret}", f"local://{secret}"):
        with pytest.raises(InvalidVideo):
            read(uri, origin, limits)
        if "local:" not in uri:
            assert read(uri, Origin.COMMAND, limits) == b"a secret"
            assert read(uri, Origin.MANIFEST, limits) == b"a secret"


def test_origin_adopted_reads_no_local_file_even_where_http_may(
    limits: FetchLimits, read: Read, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"a secret")
    opened = replace(limits, http=HttpRules(frozenset({"file"})))
    assert read(str(secret), Origin.HTTP, opened) == b"a secret"
    with pytest.raises(InvalidVideo, match="another system wrote"):
        read(str(secret), Origin.ADOPTED, opened)


def test_origin_adopted_reads_its_owners_folder_alone(limits: FetchLimits, read: Read) -> None:
    for path in (f"{ANNA}/a.mp4", f"videos/{ANNA}/{BEN}/a.mp4"):
        assert read(path, Origin.ADOPTED, limits) == b"a video"
    for path in (f"{BEN}/a.mp4", f"videos/{BEN}/a.mp4", f"{str(BEN).upper()}/a.mp4"):
        with pytest.raises(InvalidVideo, match="another owner's folder"):
            read(path, Origin.ADOPTED, limits)
    for path in ("talks/a.mp4", "a.mp4", f"{ANNA}"):
        with pytest.raises(InvalidVideo, match="not in the folder of its owner"):
            read(path, Origin.ADOPTED, limits)
    for path in (f"{ANNA}/../{BEN}/a.mp4", f"./{BEN}/a.mp4", f"talks/../{BEN}/a.mp4"):
        with pytest.raises(InvalidVideo):
            read(path, Origin.ADOPTED, limits)


def test_origin_http_reads_no_stored_file(limits: FetchLimits, read: Read) -> None:
    with pytest.raises(InvalidVideo, match="not accepted here"):
        read(f"{ANNA}/a.mp4", Origin.HTTP, limits)


@pytest.mark.parametrize("origin", OTHERS)
def test_origin_of_others_has_the_schemes_of_http(origin: Origin, limits: FetchLimits) -> None:
    assert limits_for("https://example.org/a.mp4", origin, ANNA, limits).allowed_schemes == {"https"}
    assert "s3" in limits_for(f"s3://uploads/{ANNA}/a.mp4", origin, ANNA, limits).allowed_schemes
    for uri in ("http://example.org/a.mp4", "s3://private/a.mp4", f"s3://uploads/{BEN}/a.mp4", "gs://b/a.mp4"):
        with pytest.raises(InvalidVideo) as caught:
            limits_for(f"{uri}?X-Amz-Signature=secret", origin, ANNA, limits)
        assert "secret" not in str(caught.value)
    assert limits_for("s3://private/a.mp4", Origin.COMMAND, ANNA, limits) is limits


def test_file_that_is_not_fetched_is_not_removed(limits: FetchLimits, tmp_path: Path) -> None:
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"a secret")
    for origin in OTHERS:
        assert _without_file([OwnVideo(ANNA, str(secret), origin, False, False)], limits, ANNA) == []
    assert secret.exists()
    assert _without_file([OwnVideo(ANNA, str(secret), Origin.COMMAND, False, False)], limits, ANNA)
    assert not secret.exists()
