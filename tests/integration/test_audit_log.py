"""The audit log: who did what to which object, and that no session changes what it says."""

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from starlette.testclient import TestClient

from cluster.contracts.audit import Action, ObjectKind, admin, command_line
from cluster.contracts.results import StageFailure
from cluster.contracts.search import Retriever
from cluster.contracts.stages import Blame
from cluster.contracts.videos import Submission
from cluster.runtime.settings_record import IS_SET, note_settings
from cluster.settings import load_settings
from cluster.store.index.model_registry import IndexedModel, SearchModels
from cluster.store.postgres.audit_log import AuditRow, Trail, note, read_audit_log, remove_old_entries
from cluster.store.postgres.connections import Pool, connect, open_pool
from cluster.store.queue.reprocessing import retry
from cluster.store.queue.submissions import cancel, submit
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.videos.deletion import forget
from tests.support.api_client import ADMIN, ALICE, BOB, ApiMaker, Heimdex, headers
from tests.support.database_roles import as_role, ordinary_role
from tests.support.played_workers import INFO
from tests.support.queued_videos import claim_one, only, record_media, row

BROKEN = StageFailure("InvalidVideo", "it is no video", Blame.VIDEO)


@pytest.fixture
def queue(pool: Pool) -> VideoQueue:
    return VideoQueue(pool, "first", 60.0)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The output of the audit logger, line by line."""
    caplog.set_level(logging.INFO, "heimdex.audit")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "heimdex.audit"]


def one(pool: Pool, owner_id: UUID = ALICE) -> UUID:
    return submit(pool, owner_id, [Submission(uri="s3://bucket/a.mp4")])[0]


def failed(pool: Pool, queue: VideoQueue) -> UUID:
    video_id = one(pool)
    (video,) = queue.claim(1)
    record_media(pool, video, replace(INFO, duration_s=60.0))
    queue.fail(video, "metadata", BROKEN)
    return video_id


def entries(pool: Pool) -> list[tuple[str, str, str, str]]:
    """Kind of actor, actor, action and object, the first first."""
    return [
        (entry.actor_kind, entry.actor, entry.action, entry.object) for entry in reversed(read_audit_log(pool, 100))
    ]


def here() -> str:
    return command_line().name


# What is written down


def test_owners_acts_are_written_down(api: TestClient, pool: Pool, queue: VideoQueue) -> None:
    video_id = failed(pool, queue)
    for path in ("retry", "cancel", "reprocess", "cancel"):
        assert api.post(f"/v1/videos/{video_id}/{path}", headers=headers(ALICE)).status_code == 200
    assert api.delete(f"/v1/videos/{video_id}", headers=headers(ALICE)).status_code == 204
    acts = ["retry", "cancel", "reprocess", "cancel", "forget"]
    assert entries(pool) == [("owner", str(ALICE), act, str(video_id)) for act in acts]


def test_admins_acts_are_written_down(api: TestClient, pool: Pool, queue: VideoQueue) -> None:
    video_id = failed(pool, queue)
    as_admin = headers(ADMIN)
    api.post("/v1/admin/failures/retry", json={"ids": [str(video_id)]}, headers=as_admin)
    api.post("/v1/admin/videos/cancel", json={"ids": [str(video_id)]}, headers=as_admin)
    job = api.post("/v1/admin/reprocess-embeddings", headers=as_admin).json()["id"]
    assert api.post("/v1/admin/reprocess-embeddings", headers=as_admin).status_code == 409
    objects = [("retry", str(video_id)), ("cancel", str(video_id)), ("embed", job)]
    assert entries(pool) == [("admin", str(ADMIN), action, of) for action, of in objects]


def test_commands_acts_are_written_down(heimdex: Heimdex, pool: Pool, queue: VideoQueue, tmp_path: Path) -> None:
    video_id = failed(pool, queue)
    for command in ("retry", "cancel", "reprocess", "cancel"):
        assert heimdex(command, str(video_id)).returncode == 0
    acts = ["retry", "cancel", "reprocess", "cancel"]
    assert entries(pool) == [("command", here(), act, str(video_id)) for act in acts]
    logged = (tmp_path / "data" / "logs" / "audit.log").read_text().splitlines()
    assert [f"actor=command:{here()} action={act} object=video:{video_id} time=" in line for act, line in
            zip(acts, logged, strict=True)] == [True] * 4  # fmt: skip


def test_what_changes_nothing_is_not_written_down(api: TestClient, pool: Pool) -> None:
    video_id = one(pool)
    assert api.post(f"/v1/videos/{video_id}/retry", headers=headers(ALICE)).status_code == 409
    assert api.post(f"/v1/videos/{video_id}/cancel", headers=headers(BOB)).status_code == 404
    assert api.delete(f"/v1/videos/{video_id}", headers=headers(BOB)).status_code == 404
    assert entries(pool) == []


def test_a_line_is_logged_once_it_is_committed(api: TestClient, pool: Pool, lines: Callable[[], list[str]]) -> None:
    video_id = one(pool)
    api.post(f"/v1/videos/{video_id}/cancel", headers=headers(ALICE))
    (entry,) = read_audit_log(pool, 10)
    assert lines() == [f"audit: actor=owner:{ALICE} action=cancel object=video:{video_id} time={entry.at.isoformat()}"]
    trail = Trail(admin(ADMIN))
    with suppress(RuntimeError), pool.connection() as connection:
        trail.note(connection, Action.CANCEL, ObjectKind.VIDEO, [video_id])
        raise RuntimeError
    assert len(lines()) == len(read_audit_log(pool, 10)) == 1


# Reading as an admin


def test_reading_a_users_figures_is_written_down(api: TestClient, pool: Pool) -> None:
    one(pool)
    for _ in range(2):
        assert api.get(f"/v1/admin/users/{ALICE}", headers=headers(ADMIN)).status_code == 200
    assert entries(pool) == [("admin", str(ADMIN), "read", str(ALICE))] * 2


def test_reading_everybodys_figures_is_once_an_hour(api: TestClient, pool: Pool) -> None:
    paths = ["/v1/admin/overview", "/v1/admin/users", "/v1/admin/failures/quarantine"]
    for path in paths * 3:
        assert api.get(path, headers=headers(ADMIN)).status_code == 200
    assert entries(pool) == [("admin", str(ADMIN), "read", path) for path in paths]


def test_what_is_refused_is_not_read(api: TestClient, pool: Pool) -> None:
    assert api.get("/v1/admin/overview", headers=headers(ALICE)).status_code == 403
    assert api.get(f"/v1/admin/users/{ALICE}", headers=headers(ADMIN)).status_code == 404
    assert api.get("/v1/admin/users?page=0", headers=headers(ADMIN)).status_code == 400
    assert entries(pool) == []


def test_figures_that_cannot_be_noted_are_not_given(make_api: ApiMaker, pool: Pool) -> None:
    api = make_api()
    with pool.connection() as connection:
        connection.execute("ALTER TABLE audit_log RENAME TO elsewhere")
    with pytest.raises(psycopg.errors.UndefinedTable):
        api.get("/v1/admin/overview", headers=headers(ADMIN))


# Who cancelled


@pytest.mark.parametrize(
    ("by", "sentence"),
    [
        ("owner", "cancelled by its owner"),
        ("admin", "cancelled by an admin"),
        ("command", "cancelled on the command line"),
    ],
)
@pytest.mark.parametrize("is_claimed", [False, True], ids=["waiting", "claimed"])
def test_a_cancelled_video_says_by_whom(
    api: TestClient, heimdex: Heimdex, pool: Pool, queue: VideoQueue, by: str, sentence: str, is_claimed: bool
) -> None:
    video_id = one(pool)
    if is_claimed:
        queue.claim(1)
    if by == "owner":
        api.post(f"/v1/videos/{video_id}/cancel", headers=headers(ALICE))
    elif by == "admin":
        api.post("/v1/admin/videos/cancel", json={"ids": [str(video_id)]}, headers=headers(ADMIN))
    else:
        heimdex("cancel", str(video_id))
    stored = row(pool, video_id)
    assert (stored["status"], stored["error_message"]) == ("CANCELLED", sentence)
    shown = api.get(f"/v1/videos/{video_id}", headers=headers(ALICE)).json()
    assert (shown["status"], shown["error_message"]) == ("CANCELLED", sentence)


# Models and settings


def test_changed_models_are_written_down(pool: Pool) -> None:
    models = SearchModels(pool)
    old, new = (IndexedModel(key, key, None, 8) for key in ("old@1", "new@1"))
    models.begin(Retriever.MEANING, old)
    models.switch({Retriever.MEANING: old.key})
    models.begin(Retriever.MEANING, new)
    models.switch({Retriever.MEANING: new.key})
    models.rollback()
    models.drop_old()
    changes = [("change_models", "old@1"), ("change_models", "new@1"), ("change_models", "old@1")]
    assert entries(pool) == [("command", here(), *change) for change in [*changes, ("drop_vectors", "new@1")]]
    assert read_audit_log(pool, 3)[-1].details == {"in_place_of": {"meaning": "old@1"}}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in os.environ:
        if name.startswith("HEIMDEX_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HEIMDEX_DATA_DIR", str(tmp_path))
    return monkeypatch


def test_changed_settings_are_written_down(pool: Pool, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HEIMDEX_LEASE_S", "30")
    environment.setenv("HEIMDEX_JWT_SECRET", "correct horse battery staple and more")
    assert note_settings(pool, load_settings()) == ["HEIMDEX_DATA_DIR", "HEIMDEX_JWT_SECRET", "HEIMDEX_LEASE_S"]
    assert note_settings(pool, load_settings()) == []
    environment.setenv("HEIMDEX_LEASE_S", "90")
    environment.delenv("HEIMDEX_JWT_SECRET")
    assert note_settings(pool, load_settings()) == ["HEIMDEX_JWT_SECRET", "HEIMDEX_LEASE_S"]
    latest, first = read_audit_log(pool, 10)
    assert first.details["settings"]["HEIMDEX_JWT_SECRET"] == IS_SET
    assert latest.details["settings"]["HEIMDEX_LEASE_S"] == "90.0"
    assert "correct horse" not in repr([latest, first])


# What may not be done to it


def outdate(pool: Pool, days: int) -> None:
    """Entries as if they were so many days older, by an owner who takes the triggers away."""
    with pool.connection() as connection:
        connection.execute("ALTER TABLE audit_log DISABLE TRIGGER USER")
        connection.execute("UPDATE audit_log SET at = at - make_interval(days => %s)", (days,))
        connection.execute("ALTER TABLE audit_log ENABLE TRIGGER USER")


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_log SET actor = 'another'", "DELETE FROM audit_log", "TRUNCATE audit_log"],
)
def test_entries_cannot_be_changed_or_removed(pool: Pool, database_url: str, statement: str) -> None:
    note(pool, admin(ADMIN), Action.READ, ObjectKind.OWNER, [ALICE])
    before = read_audit_log(pool, 10)
    with connect(database_url) as connection, pytest.raises(psycopg.errors.RaiseException, match="never changed"):
        connection.execute(statement)
    assert read_audit_log(pool, 10) == before


def test_a_role_that_may_only_add_writes_entries(database_url: str, pool: Pool) -> None:
    with ordinary_role(database_url) as role:
        with connect(database_url) as connection:
            connection.execute(f'GRANT INSERT ON audit_log TO "{role}"')
        with open_pool(as_role(database_url, role), max_size=1, name="tests") as adding:
            note(adding, admin(ADMIN), Action.READ, ObjectKind.OWNER, [ALICE])
    assert entries(pool) == [("admin", str(ADMIN), "read", str(ALICE))]


def test_entries_are_removed_after_their_time(pool: Pool) -> None:
    note(pool, admin(ADMIN), Action.READ, ObjectKind.OWNER, [ALICE])
    outdate(pool, 40)
    note(pool, admin(ADMIN), Action.READ, ObjectKind.OWNER, [BOB])
    assert remove_old_entries(pool, 60) == 0
    assert remove_old_entries(pool, 35) == 1
    assert [entry.object for entry in read_audit_log(pool, 10)] == [str(BOB)]
    outdate(pool, 20)
    assert remove_old_entries(pool, 1) == 0


def test_entries_tell_nothing_of_what_is_forgotten(pool: Pool) -> None:
    video_id = submit(pool, ALICE, [Submission(uri="s3://bucket/confession.mp4")])[0]
    forget(pool, [video_id])
    assert {entry.object for entry in read_audit_log(pool, 10)} == {str(video_id)}
    assert "confession" not in repr(read_audit_log(pool, 10))


# Reading it


def test_the_command_lists_the_latest(heimdex: Heimdex, pool: Pool) -> None:
    first, second = one(pool), one(pool, BOB)
    cancel(pool, [first])
    retry(pool, [first])
    cancel(pool, [second])
    listed = heimdex("audit").stdout.decode().splitlines()
    assert [line.split(" ", 2)[2] for line in listed] == [
        f"command:{here()} {act} video:{of}" for act, of in (("cancel", second), ("retry", first), ("cancel", first))
    ]
    assert len(heimdex("audit", "--object", str(first)).stdout.splitlines()) == 2
    tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"
    assert heimdex("audit", "--since", tomorrow).stdout == b""


def test_entries_have_the_databases_time(pool: Pool, queue: VideoQueue) -> None:
    video = claim_one(pool, queue)
    before = only(pool, "SELECT clock_timestamp() AS now")["now"]
    cancel(pool, [video.id])
    entry: AuditRow = read_audit_log(pool, 1)[0]
    assert before <= entry.at <= only(pool, "SELECT clock_timestamp() AS now")["now"]
    assert entry.details == dict[str, Any]()
