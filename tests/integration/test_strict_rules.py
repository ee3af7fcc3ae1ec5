"""Refusals by the rules of an existing database: one sentence, nothing half written, and never a failed search."""

import logging
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from cluster.cli.doctor import _owner
from cluster.contracts.audit import owner
from cluster.contracts.errors import ConfigurationError, RefusedByDatabase
from cluster.contracts.quotas import NO_LIMITS, SubmissionLimits
from cluster.contracts.search import parse_words
from cluster.contracts.uris import video_name
from cluster.contracts.videos import Submission
from cluster.store.metrics import figures as metrics
from cluster.store.postgres.backfill import backfill_finish_times
from cluster.store.postgres.connections import Pool, connect, open_pool
from cluster.store.postgres.migrations import apply_migrations
from cluster.store.queue.reprocessing import retry
from cluster.store.queue.submissions import cancel, check_owner, quarantine, submit
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.search.hits import read_scenes, record_search
from cluster.store.videos.deletion import find_own, forget
from cluster.store.videos.progress import read_standings
from tests.support.api_client import ADMIN, ApiMaker, headers
from tests.support.existing_database import ANNA, CARA, STRANGER, changes_between, clip, take_snapshot
from tests.support.strict_world import TELLING_COLUMNS

TWO = [Submission(uri="s3://videos/a.mp4"), Submission(uri="s3://videos/b.mp4")]
RULES = [
    "ALTER TABLE videos ADD COLUMN bucket text NOT NULL",
    "ALTER TABLE videos ADD CHECK (storage_path NOT LIKE 's3:%')",
    "CREATE UNIQUE INDEX ON videos (owner_id) WHERE storage_path LIKE 's3:%'",
    "ALTER TABLE videos FORCE ROW LEVEL SECURITY",
    "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'quota is used up'; END $$; "
    "CREATE TRIGGER no BEFORE INSERT ON videos FOR EACH ROW EXECUTE FUNCTION no()",
]


@pytest.fixture
def strict_url(existing_url: str) -> str:
    apply_migrations(existing_url)
    return existing_url


@pytest.fixture
def strict(strict_url: str) -> Iterator[Pool]:
    with open_pool(strict_url, max_size=4, name="tests") as pool:
        yield pool


def count(pool: Pool, table: str) -> int:
    with pool.connection() as connection:
        return int(connection.execute(f"SELECT count(*) AS n FROM {table}").fetchall()[0]["n"])


def test_a_known_owner_submits_and_nothing_of_others_changes(strict_url: str, strict: Pool) -> None:
    before = take_snapshot(strict_url)
    assert len(submit(strict, ANNA, TWO, limits=SubmissionLimits(9))) == 2
    assert changes_between(before, take_snapshot(strict_url)) == []


@pytest.mark.parametrize("most", [None, 9])
def test_an_unknown_owner_is_one_sentence(strict: Pool, most: int | None) -> None:
    with pytest.raises(RefusedByDatabase, match=f"knows no owner {STRANGER}") as refused:
        submit(strict, STRANGER, TWO, limits=SubmissionLimits(most))
    assert "\n" not in str(refused.value)
    assert (count(strict, "videos"), count(strict, "video_processing"), count(strict, "video_owners")) == (48, 0, 0)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_of_the_database_is_one_sentence(strict_url: str, strict: Pool, rule: str) -> None:
    with connect(strict_url) as connection:
        if "NOT NULL" in rule:
            connection.execute("TRUNCATE videos CASCADE")
        connection.execute(rule.encode())
    before = count(strict, "videos")
    with pytest.raises(RefusedByDatabase, match=f"refuses videos of {ANNA}: "):
        submit(strict, ANNA, TWO)
    assert (count(strict, "videos"), count(strict, "video_processing")) == (before, 0)


def test_doctor_says_whether_the_owner_may_be_written(strict_url: str, strict: Pool) -> None:
    before = take_snapshot(strict_url)
    assert _owner(strict_url, ANNA).ok
    found = _owner(strict_url, STRANGER)
    assert (found.ok, f"knows no owner {STRANGER}" in found.seen) == (False, True)
    with pytest.raises(RefusedByDatabase):
        check_owner(strict_url, STRANGER)
    assert changes_between(before, take_snapshot(strict_url)) == []
    assert (count(strict, "videos"), count(strict, "video_processing")) == (48, 0)


def test_http_answers_a_stranger_with_a_sentence(make_api: ApiMaker, strict: Pool) -> None:
    api = make_api(pool=strict)
    answer = api.post("/v1/videos", json={"uri": "s3://videos/a.mp4"}, headers=headers(STRANGER))
    assert (answer.status_code, list(answer.json())) == (409, ["detail"])
    assert f"knows no owner {STRANGER}" in answer.json()["detail"]


def test_a_search_of_a_stranger_is_recorded_without_them(strict: Pool) -> None:
    record_search(strict, STRANGER, "harbour", 3, 12)
    with strict.connection() as connection:
        rows = connection.execute("SELECT user_id, results_count FROM search_queries WHERE query_text = 'harbour'")
        assert rows.fetchall() == [{"user_id": None, "results_count": 3}]


def test_a_search_that_cannot_be_recorded_is_logged(
    strict_url: str, strict: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(strict_url) as connection:
        connection.execute("ALTER TABLE search_queries ADD CHECK (query_text NOT LIKE '%harbour%')")
    with caplog.at_level(logging.WARNING):
        record_search(strict, ANNA, "harbour", 3, 12)
    assert "not recorded" in caplog.text
    assert count(strict, "search_queries") == 40


# Videos without a name: the last part of where they are, as 3, 15 (FAILED), 6, 18 (READY) have none


def test_quarantine_names_what_has_no_name(strict: Pool) -> None:
    videos, _ = quarantine(strict, 50)
    named = {video.id: (video.filename, video.name) for video in videos}
    assert named[clip(3)] == (None, "clip-3.mp4")
    assert named[clip(7)] == ("clip 7.mp4", "clip 7.mp4")


def test_standings_and_scenes_name_what_has_no_name(strict: Pool) -> None:
    (standing,) = read_standings(strict, [clip(6)])
    assert (standing.filename, standing.name) == (None, "clip-6.mp4")
    with strict.connection() as connection:
        rows = connection.execute("SELECT id FROM video_scenes WHERE video_id = %s", (clip(6),)).fetchall()
    scenes = read_scenes(strict, CARA, [row["id"] for row in rows], parse_words("harbour"))
    assert {scene.name for scene in scenes.values()} == {"clip-6.mp4"}


def test_the_quarantine_endpoint_has_null_for_a_missing_name(make_api: ApiMaker, strict: Pool) -> None:
    answer = make_api(pool=strict).get("/v1/admin/failures/quarantine", headers=headers(ADMIN))
    assert answer.status_code == 200
    assert {item["filename"] for item in answer.json()["items"]} >= {None, "clip 7.mp4"}


def test_a_stored_path_is_enough_for_a_name() -> None:
    video_id = UUID(int=5)
    assert video_name("a talk.mp4", "s3://b/x.mp4", video_id) == "a talk.mp4"
    assert video_name(None, f"{ANNA}/x.mp4", video_id) == "x.mp4"
    assert video_name("", "", video_id) == str(video_id)


# Forgetting


KEPT = (
    "updated_at", "created_at", "status", "storage_path", "duration_s", "processing_finished_at", "owner_id",
)  # fmt: skip


def test_forgetting_clears_all_that_tells_and_moves_no_time(strict_url: str, strict: Pool) -> None:
    before = take_snapshot(strict_url)
    with strict.connection() as connection:
        figures = metrics.get_throughput_v2(connection, 30)
    assert set(forget(strict, [clip(26), clip(27)])) == {clip(26), clip(27)}
    after = take_snapshot(strict_url)
    for number in (26, 27):
        row = after.rows["videos"][str(clip(number))]
        assert {name: row[name] for name in TELLING_COLUMNS} == {
            **dict.fromkeys(TELLING_COLUMNS), "has_rich_semantics": "false"
        }  # fmt: skip
        assert row["filename"] == "forgotten"
        assert {name: row[name] for name in KEPT} == {
            name: before.rows["videos"][str(clip(number))][name] for name in KEPT
        }
    assert not any(scene["video_id"] == str(clip(26)) for scene in after.rows["video_scenes"].values())
    with strict.connection() as connection:
        assert metrics.get_throughput_v2(connection, 30) == figures
        triggers = connection.execute("SELECT tgenabled FROM pg_trigger WHERE tgname = 'update_videos_updated_at'")
        assert triggers.fetchall() == [{"tgenabled": "O"}]
    changed = [line for line in changes_between(before, after) if line.startswith("videos.")]
    assert all(str(clip(26)) in line or str(clip(27)) in line for line in changed)


@pytest.mark.parametrize("number", [24, 25])
def test_what_the_existing_system_has_in_work_is_left_to_it(strict: Pool, number: int) -> None:
    assert forget(strict, [clip(number)]) == []
    owner = owner_of(strict, clip(number))
    (found,) = find_own(strict, owner, [clip(number)], [])
    assert found.elsewhere


def owner_of(pool: Pool, video: UUID) -> Any:
    with pool.connection() as connection:
        owner: UUID = connection.execute("SELECT owner_id FROM videos WHERE id = %s", (video,)).fetchall()[0][
            "owner_id"
        ]
    return owner


def test_a_role_without_the_right_may_not_forget(strict_url: str, strict: Pool) -> None:
    with connect(strict_url) as connection:
        connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO service_role")
        connection.execute("REVOKE ALL ON FUNCTION heimdex_clear_forgotten FROM service_role")
    service = strict_url.replace("://existing_owner@", "://service_role@")
    with (
        open_pool(service, max_size=1, name="tests") as pool,
        pytest.raises(ConfigurationError, match="may forget no videos"),
    ):
        forget(pool, [clip(26)])


# Cancelling


def test_a_cancelled_video_is_failed_to_others(strict_url: str, strict: Pool) -> None:
    before = take_snapshot(strict_url)
    with strict.connection() as connection:
        overview = metrics.get_overview(connection)
    waiting, running = submit(strict, ANNA, TWO)
    VideoQueue(strict, "first", 60.0).claim(1)
    assert set(cancel(strict, [waiting, running], by=owner(ANNA, NO_LIMITS))) == {waiting, running}
    after = take_snapshot(strict_url)
    assert changes_between(before, after) == []
    for video in (waiting, running):
        row = after.rows["videos"][str(video)]
        assert (row["status"], row["error_message"]) == ("FAILED", "cancelled by its owner")
        assert (row["processing_finished_at"] is not None, row["processing_duration_ms"]) == (True, None)
    assert backfill_finish_times(strict, dry_run=True) == 12
    assert {standing.status for standing in read_standings(strict, [waiting, running])} == {"CANCELLED"}
    with strict.connection() as connection:
        now = metrics.get_overview(connection)
    assert now == {**overview, "videos_total": overview["videos_total"] + 2}
    assert quarantine(strict, 50)[1] == 12
    assert set(retry(strict, [waiting])) == {waiting}
    assert forget(strict, [running]) == [running]
