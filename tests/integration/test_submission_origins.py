"""Whose bytes are read: what a user of the database or of HTTP can write decides nothing that is not the user's."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import boto3
import fsspec
import psycopg
import pytest
from moto.server import ThreadedMotoServer
from psycopg import Connection
from starlette.testclient import TestClient

from cluster.cli.adopt import take_over_left
from cluster.cli.doctor_origins import submissions
from cluster.contracts.errors import InvalidVideo, SubmissionChanged
from cluster.contracts.stages import WorkerKind
from cluster.contracts.videos import ClaimedVideo, Origin, Submission
from cluster.files.fetch_limits import http_rules
from cluster.files.storage_root import is_copied
from cluster.runtime.plan import Hardware, plan_workers
from cluster.search.service import SearchService
from cluster.settings import Settings, load_settings
from cluster.store.postgres.connections import Pool, connect, open_pool
from cluster.store.postgres.migrations import apply_migrations
from cluster.store.queue.reprocessing import LeftVideo, reprocess, retry, take_over
from cluster.store.queue.rights import other_writers
from cluster.store.queue.submissions import submit
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.search.engines import index_opener
from serve_app.auth import AuthRules, TokenVerifier
from serve_app.parts import ApiParts
from tests.integration.test_moving_over import apply_former
from tests.support.api_client import ADMIN, ALICE, BOB, SECRET, ApiMaker, headers, query_models
from tests.support.existing_database import ANNA, BEN, OWNER_ROLE, WEB_ROLES, clip

FORBIDDEN = psycopg.errors.InsufficientPrivilege
WAITING, FAILED = clip(4), clip(23)
"""Anna's, which the existing system left PENDING, and Dora's, which it left FAILED."""


@pytest.fixture
def settings(existing_url: str, tmp_path: Path) -> Settings:
    return load_settings(
        database_url=existing_url,
        data_dir=tmp_path / "data",
        scratch_dir=tmp_path / "scratch",
        storage_root=str(tmp_path / "stored"),
        whisper_model="bundled",
        clip_model="bundled",
        text_model="bundled",
        device="cpu",
    )


@pytest.fixture
def strict(existing_url: str) -> Iterator[Pool]:
    apply_migrations(existing_url)
    with open_pool(existing_url, max_size=4, name="tests") as opened:
        yield opened


@pytest.fixture
def api(strict: Pool) -> Iterator[TestClient]:
    from serve_app.app import build_api  # brings Ray Serve along: seconds that only the tests of the API wait for

    verifier = TokenVerifier(AuthRules(SECRET, None, frozenset({ADMIN})))
    search = SearchService(index_opener(strict), query_models(strict), strict)
    with TestClient(build_api(ApiParts(strict, verifier, search, frozenset({"http", "https"})))) as client:
        yield client


@contextmanager
def as_user(url: str, user: UUID) -> Iterator[Connection[Any]]:
    """The database as a page of the existing system enters it for a user."""
    with connect(url.replace(f"://{OWNER_ROLE}@", "://authenticated@")) as connection:
        connection.execute("SELECT set_config('request.jwt.claim.sub', %s, false)", (str(user),))
        yield connection


def claim(pool: Pool) -> ClaimedVideo:
    (video,) = VideoQueue(pool, "first", 60.0).claim(1)
    return video


def download(settings: Settings, video: ClaimedVideo) -> bytes:
    """What a worker brings of it: a fetcher, or a media worker where it need not be copied."""
    plan = plan_workers(settings, str(settings.database_url), Hardware(2, 0, 2))
    if is_copied(video.uri, root_is_remote=False):
        brought = plan.loader(WorkerKind.FETCHER)().calls["fetch"](video.uri, "key", video.owner_id, video.origin)
    else:
        brought = plan.loader(WorkerKind.MEDIA)().calls["locate"](video.uri, video.owner_id, video.origin)
    return bytes(brought.path.read_bytes())


def store(path: Path, content: bytes = b"a video") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# What a user writes into a row of videos


@pytest.mark.parametrize(
    "path",
    ["{secret}", "file://{secret}", "{victim}/a.mp4", "videos/{victim}/a.mp4", "shared.mp4", "s3://private/a.mp4"],
)
@pytest.mark.parametrize("action", ["retry", "reprocess"])
def test_path_that_a_user_wrote_is_not_read(
    api: TestClient, strict: Pool, existing_url: str, settings: Settings, tmp_path: Path, path: str, action: str
) -> None:
    secret = store(tmp_path / "secret.mp4", b"a secret")
    for stored in (f"{BEN}/a.mp4", f"videos/{BEN}/a.mp4", "shared.mp4"):
        store(tmp_path / "stored" / stored, b"a secret")
    written = path.format(secret=secret, victim=BEN)
    with strict.connection() as connection:
        (row,) = connection.execute("SELECT owner_id FROM videos WHERE id = %s", (FAILED,)).fetchall()
    with as_user(existing_url, row["owner_id"]) as connection:
        changed = connection.execute("UPDATE videos SET storage_path = %s WHERE id = %s", (written, FAILED))
        assert changed.rowcount == 1
    answer = api.post(f"/v1/videos/{FAILED}/{action}", headers=headers(row["owner_id"]))
    assert answer.status_code == 200, answer.text
    video = claim(strict)
    assert (video.id, video.uri, video.origin) == (FAILED, written, Origin.ADOPTED)
    with pytest.raises(InvalidVideo):
        download(settings, video)


def test_adopted_file_is_read_where_its_row_says_now(
    strict: Pool, existing_url: str, settings: Settings, tmp_path: Path
) -> None:
    assert retry(strict, [FAILED]) == [FAILED]
    first = claim(strict)
    with strict.connection() as connection:
        connection.execute("DELETE FROM video_leases")
        connection.execute("UPDATE videos SET status = 'FAILED' WHERE id = %s", (FAILED,))
    with as_user(existing_url, first.owner_id) as connection:
        path = f"{first.owner_id}/uploaded-again.mp4"
        connection.execute("UPDATE videos SET storage_path = %s WHERE id = %s", (path, FAILED))
    store(tmp_path / "stored" / path)
    assert reprocess(strict, [FAILED]) == [FAILED]
    assert download(settings, claim(strict)) == b"a video"


def test_path_changed_after_submission_is_not_read(
    api: TestClient, strict: Pool, existing_url: str, tmp_path: Path
) -> None:
    uri = "https://example.org/a.mp4?X-Amz-Signature=secret"
    answer = api.post("/v1/videos", json={"uri": uri}, headers=headers(ANNA))
    (video_id,) = answer.json()["ids"]
    secret = store(tmp_path / "secret.mp4", b"a secret")
    with as_user(existing_url, ANNA) as connection:
        connection.execute("UPDATE videos SET storage_path = %s, filename = 'x' WHERE id = %s", (str(secret), video_id))
    for again in (False, True):
        video = claim(strict)
        assert (str(video.id), video.uri, video.origin) == (video_id, uri, Origin.HTTP)
        if not again:
            with strict.connection() as connection:
                connection.execute("DELETE FROM video_leases")
                connection.execute("UPDATE videos SET status = 'FAILED' WHERE id = %s", (video_id,))
            assert api.post(f"/v1/videos/{video_id}/retry", headers=headers(ANNA)).status_code == 200
    assert api.get(f"/v1/videos/{video_id}", headers=headers(ANNA)).json()["uri"] == "https://example.org/a.mp4"


def test_path_changed_while_it_is_taken_over_is_not_queued(
    strict: Pool, existing_url: str, settings: Settings, tmp_path: Path
) -> None:
    path = f"{ANNA}/clip-4.mp4"
    store(tmp_path / "stored" / path)
    looked_at = LeftVideo(WAITING, ANNA, path, "PENDING")
    with as_user(existing_url, ANNA) as connection:
        connection.execute("UPDATE videos SET storage_path = '/etc/hostname' WHERE id = %s", (WAITING,))
    assert take_over(strict, [looked_at], ["PENDING"]) == []
    with as_user(existing_url, ANNA) as connection:
        connection.execute("UPDATE videos SET storage_path = %s WHERE id = %s", (path, WAITING))
    assert take_over_left(settings, existing_url, failed=False, dry=False, say=lambda _: None).queued == 1
    with as_user(existing_url, ANNA) as connection:
        connection.execute("UPDATE videos SET storage_path = '/etc/hostname' WHERE id = %s", (WAITING,))
    video = claim(strict)
    assert (video.uri, video.origin) == (path, Origin.ADOPTED)
    assert download(settings, video) == b"a video"


def test_file_in_no_folder_of_its_owner_is_not_taken_over(
    strict: Pool, existing_url: str, settings: Settings, tmp_path: Path
) -> None:
    store(tmp_path / "stored" / "shared.mp4")
    with strict.connection() as connection:
        connection.execute("UPDATE videos SET storage_path = 'shared.mp4' WHERE id = %s", (WAITING,))
    taken = take_over_left(settings, existing_url, failed=False, dry=False, say=lambda _: None)
    assert (taken.queued, taken.refused["its file is in no folder of its owner"]) == (0, 1)


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "294000-01-01", None])
def test_claim_survives_moments_that_a_user_wrote(strict: Pool, existing_url: str, moment: str | None) -> None:
    (mine, other) = (submit(strict, who, [Submission(uri="https://example.org/a.mp4")])[0] for who in (ANNA, BEN))
    with as_user(existing_url, ANNA) as connection:
        connection.execute("UPDATE videos SET queued_at = %s WHERE id = %s", (moment, mine))
    claimed = VideoQueue(strict, "first", 60.0).claim(9)
    assert {video.id for video in claimed} == {mine, other}
    assert all(video.due_at <= video.claimed_at for video in claimed)
    assert max(video.claimed_at for video in claimed) < datetime.now(UTC) + timedelta(days=2)


# Who may queue a video


@pytest.mark.parametrize("role", WEB_ROLES)
def test_no_web_role_queues_a_video(strict: Pool, existing_url: str, role: str) -> None:
    url = existing_url.replace(f"://{OWNER_ROLE}@", f"://{role}@")
    (known,) = submit(strict, ANNA, [Submission(uri="https://example.org/a.mp4")])
    claim(strict)
    for statement in (
        "INSERT INTO video_processing (video_id, owner_id, due_at, available_at, uri, origin) "
        "SELECT id, owner_id, now(), now(), '/etc/hostname', 'command' FROM videos WHERE id = %(waiting)s",
        "INSERT INTO video_processing (video_id, owner_id) VALUES (%(waiting)s, %(anna)s)",
        "UPDATE video_processing SET available_at = now(), uri = '/etc/hostname' WHERE video_id = %(known)s",
        "UPDATE video_processing SET origin = 'command' WHERE video_id = %(known)s",
        "DELETE FROM video_processing",
        "INSERT INTO video_owners VALUES (%(anna)s)",
    ):
        with connect(url) as connection, pytest.raises(FORBIDDEN):
            connection.execute(statement, {"waiting": WAITING, "anna": ANNA, "known": known})
    with as_user(existing_url, ANNA) as connection:
        connection.execute(
            "UPDATE videos SET status = 'PENDING', queued_at = now(), processing_stage = 'queued', "
            "storage_path = '/etc/hostname' WHERE owner_id = %s",
            (ANNA,),
        )
        connection.execute(
            "INSERT INTO videos (owner_id, storage_path, status, queued_at) "
            "VALUES (%s, '/etc/hostname', 'PENDING', now())",
            (ANNA,),
        )
    assert VideoQueue(strict, "second", 60.0).claim(99) == []


def test_row_with_table_grants_is_fetched_as_adopted(
    strict: Pool, existing_url: str, settings: Settings, tmp_path: Path
) -> None:
    """As a role that has been granted the table may write it: without an origin, it has the narrowest."""
    secret = store(tmp_path / "secret.mp4", b"a secret")
    with connect(existing_url) as connection:
        video_id = uuid4()
        connection.execute(
            "INSERT INTO videos (id, owner_id, storage_path, status, queued_at) VALUES (%s, %s, %s, 'PENDING', now())",
            (video_id, ANNA, str(secret)),
        )
        connection.execute(
            "INSERT INTO video_processing (video_id, owner_id, due_at, available_at) VALUES (%s, %s, now(), now())",
            (video_id, ANNA),
        )
    video = claim(strict)
    assert (video.id, video.origin) == (video_id, Origin.ADOPTED)
    with pytest.raises(InvalidVideo, match="another system wrote"):
        download(settings, video)


def test_submission_does_not_take_over_a_row_of_another(strict: Pool, existing_url: str) -> None:
    taken = uuid4()
    with as_user(existing_url, BEN) as connection:
        connection.execute(
            "INSERT INTO videos (id, owner_id, storage_path) VALUES (%s, %s, 'https://example.org/a.mp4')", (taken, BEN)
        )
    same = [Submission(uri="https://example.org/a.mp4")]
    of_ben = submit(strict, BEN, same, [uuid4()], origin=Origin.HTTP)
    for ids in ([taken], of_ben):
        with pytest.raises(SubmissionChanged):
            submit(strict, ANNA, same, ids, origin=Origin.HTTP)


@pytest.mark.parametrize("origin", Origin)
def test_origin_stays_whatever_is_done(pool: Pool, origin: Origin) -> None:
    (video_id,) = submit(pool, ALICE, [Submission(uri="s3://bucket/a.mp4")], origin=origin)
    for again in (retry, reprocess):
        with pool.connection() as connection:
            connection.execute("DELETE FROM video_leases")
            connection.execute("UPDATE videos SET status = 'FAILED'")
            connection.execute("UPDATE video_processing SET available_at = NULL")
        assert again(pool, [video_id]) == [video_id]
        assert (claimed := claim(pool)).origin is origin
        assert claimed.uri == "s3://bucket/a.mp4"


# What there was before


BEFORE = {
    "/videos/a.mp4": ("command", "http"),
    "FILE:///videos/a.mp4": ("command", "http"),
    "owner/a.mp4": ("adopted", "adopted"),
    "https://example.org/a.mp4": ("http", "http"),
    "s3://private/a.mp4": ("http", "http"),
}


@pytest.mark.parametrize("writable", [False, True], ids=["ours alone", "users write videos"])
def test_rows_from_before_have_the_narrowest_origin(bare_database_url: str, writable: bool) -> None:
    apply_former(bare_database_url, 40)
    with connect(bare_database_url) as connection:
        for uri in BEFORE:
            connection.execute(
                "WITH v AS (INSERT INTO videos (owner_id, storage_path) VALUES (%s, %s) RETURNING id, owner_id) "
                "INSERT INTO video_processing (video_id, owner_id) SELECT id, owner_id FROM v",
                (ALICE, uri),
            )
        if writable:
            connection.execute("GRANT UPDATE (storage_path) ON videos TO PUBLIC")
    apply_migrations(bare_database_url)
    with connect(bare_database_url) as connection:
        rows = connection.execute("SELECT uri, origin FROM video_processing").fetchall()
    assert {row["uri"]: row["origin"] for row in rows} == {uri: both[writable] for uri, both in BEFORE.items()}


# Object stores, at a real server


@pytest.fixture(scope="module")
def buckets() -> Iterator[None]:
    """A bucket for uploads and a private one, within reach of the same credentials."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "AKIAKEY",
            "AWS_SECRET_ACCESS_KEY": "secretkey",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            environment.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()  # of other modules' tests, without these credentials
        client = boto3.client("s3")
        for bucket, key in (("uploads", f"{ALICE}/a.mp4"), ("uploads", f"{BOB}/b.mp4"), ("private", "b.mp4")):
            if bucket not in {found["Name"] for found in client.list_buckets()["Buckets"]}:
                client.create_bucket(Bucket=bucket)
            client.put_object(Bucket=bucket, Key=key, Body=f"{bucket}/{key}".encode())
        client.close()
        yield
        fsspec.get_filesystem_class("s3").clear_instance_cache()
    server.stop()


@pytest.fixture
def uploads(database_url: str, tmp_path: Path) -> Settings:
    return load_settings(
        database_url=database_url,
        data_dir=tmp_path / "data",
        scratch_dir=tmp_path / "scratch",
        http_uri_prefixes="s3://uploads/{owner}/",
        whisper_model="bundled",
        clip_model="bundled",
        text_model="bundled",
        device="cpu",
    )


def client_of(make_api: ApiMaker, settings: Settings) -> TestClient:
    rules = http_rules(settings)
    return make_api(allowed_schemes=rules.schemes, uri_prefixes=rules.prefixes)


def test_buckets_are_closed_to_http_by_default(make_api: ApiMaker, pool: Pool) -> None:
    api = client_of(make_api, load_settings())
    for uri in ("s3://private/b.mp4", "S3://private/b.mp4", "gs://private/b.mp4", "az://private/b.mp4"):
        answer = api.post("/v1/videos", json={"uri": uri}, headers=headers(ALICE))
        assert answer.status_code == 400
        assert "is not accepted here (allowed schemes: http, https)" in answer.json()["detail"]


def test_prefix_opens_an_owners_own_folder(buckets: None, make_api: ApiMaker, pool: Pool, uploads: Settings) -> None:
    api = client_of(make_api, uploads)
    for uri in (f"s3://uploads/{BOB}/b.mp4", "s3://private/b.mp4", f"s3://uploads/{ALICE}/../{BOB}/b.mp4"):
        answer = api.post("/v1/videos", json=[{"uri": uri}], headers=headers(ALICE))
        assert answer.status_code == 400, uri
        assert answer.json()["detail"] == f"0.uri: s3:// is accepted here only below s3://uploads/{ALICE}/"
    own = f"s3://uploads/{ALICE}/a.mp4"
    assert api.post("/v1/videos", json={"uri": own}, headers=headers(ALICE)).status_code == 202
    video = claim(pool)
    assert (video.uri, video.origin) == (own, Origin.HTTP)
    assert download(uploads, video) == f"uploads/{ALICE}/a.mp4".encode()


Tampering = Callable[[ClaimedVideo], ClaimedVideo]


@pytest.mark.parametrize(
    "tampered",
    [
        lambda video: replace(video, uri=f"s3://uploads/{BOB}/b.mp4"),
        lambda video: replace(video, uri="s3://private/b.mp4"),
        lambda video: replace(video, owner_id=BOB),
        lambda video: replace(video, origin=Origin.ADOPTED, uri="s3://private/b.mp4"),
    ],
    ids=["another's", "another bucket", "another owner", "adopted"],
)
def test_worker_checks_prefixes_again(buckets: None, pool: Pool, uploads: Settings, tampered: Tampering) -> None:
    submit(pool, ALICE, [Submission(uri=f"s3://uploads/{ALICE}/a.mp4")], origin=Origin.HTTP)
    video = claim(pool)
    assert download(uploads, video)
    with pytest.raises(InvalidVideo, match="only below"):
        download(uploads, tampered(video))


def test_worker_refuses_what_settings_no_longer_allow(buckets: None, pool: Pool, uploads: Settings) -> None:
    submit(pool, ALICE, [Submission(uri=f"s3://uploads/{ALICE}/a.mp4")], origin=Origin.HTTP)
    submit(pool, ALICE, [Submission(uri="s3://private/b.mp4")])
    http, command = VideoQueue(pool, "first", 60.0).claim(2)
    closed = uploads.model_copy(update={"http_uri_prefixes": ()})
    with pytest.raises(InvalidVideo, match="s3:// is not accepted here"):
        download(closed, http)
    assert download(closed, command) == b"private/b.mp4"


def test_store_that_is_away_tells_no_endpoint(pool: Pool, uploads: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAKEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secretkey")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    submit(pool, ALICE, [Submission(uri=f"s3://uploads/{ALICE}/a.mp4?X-Amz-Signature=secret")], origin=Origin.HTTP)
    with pytest.raises(Exception, match="cannot fetch") as caught:
        download(uploads, claim(pool))
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    said = str(caught.value)
    assert said.startswith(f"cannot fetch s3://uploads/{ALICE}/a.mp4: ")
    assert not any(told in said for told in ("127.0.0.1", ":9", "AKIA", "secret", "http"))


def test_roles_that_may_queue_are_named(strict: Pool, existing_url: str) -> None:
    assert other_writers(existing_url) == []
    with connect(existing_url) as connection:
        connection.execute("GRANT UPDATE ON video_processing TO service_role")
        connection.execute("GRANT INSERT ON video_processing TO PUBLIC")
    assert other_writers(existing_url) == ["PUBLIC", "service_role"]


def test_doctor_warns_of_whole_stores(tmp_path: Path) -> None:
    def found(**settings: Any) -> tuple[bool, str]:
        (finding,) = submissions(load_settings(data_dir=tmp_path, **settings))
        return finding.ok, finding.seen

    assert found(http_uri_prefixes="s3://uploads/{owner}") == (True, "http, https, s3://uploads/{owner}/")
    ok, seen = found(http_allowed_schemes="https,s3,file")
    assert not ok
    assert seen.endswith("every user reads all that this cluster reads by file, s3")
