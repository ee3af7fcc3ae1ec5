"""Videos of owners of an existing database become READY on it. Then every command is used on them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from starlette.testclient import TestClient

from cluster.cli.adopt import take_over_left
from cluster.cli.search_command import open_search
from cluster.contracts.videos import Submission
from cluster.demo import clips, truth
from cluster.runtime.plan import Hardware, plan_workers
from cluster.settings import Settings, load_settings
from cluster.store.metrics import figures
from cluster.store.postgres.connections import Pool, connect, open_pool
from cluster.store.postgres.migrations import apply_migrations
from cluster.store.queue.submissions import submit
from cluster.store.queue.video_queue import VideoQueue
from serve_app.auth import AuthRules, TokenVerifier
from serve_app.parts import ApiParts
from tests.support import metrics_reference as reference
from tests.support.api_client import ADMIN, SECRET, headers
from tests.support.existing_database import ANNA, CARA, clip, take_snapshot
from tests.support.played_workers import attempt
from tests.support.real_workers import RealWorkers
from tests.support.strict_world import FORGOTTEN, PROCESSED, STATE, added, read_world, unexpected

CLIP = next(path for path in clips() if truth(path).spoken_queries)
SAID = truth(CLIP).spoken_queries[0].query
OURS = UUID(int=0xC0FFEE)
READY = clip(10)
"""Cara's, which the existing system has processed."""


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
def pool(existing_url: str) -> Iterator[Pool]:
    apply_migrations(existing_url)
    with open_pool(existing_url, max_size=8, name="tests") as opened:
        yield opened


@pytest.fixture
def api(settings: Settings, pool: Pool) -> Iterator[TestClient]:
    from serve_app.app import build_api  # brings Ray Serve along: seconds that only the tests of the API wait for

    verifier = TokenVerifier(AuthRules(SECRET, None, frozenset({ADMIN})))
    parts = ApiParts(pool, verifier, open_search(settings, pool), frozenset({"s3"}))
    with TestClient(build_api(parts)) as client:
        yield client


@pytest.fixture
def workers(settings: Settings, existing_url: str) -> RealWorkers:
    return RealWorkers(plan_workers(settings, existing_url, Hardware(2, 0, 2)))


def process(pool: Pool, workers: RealWorkers) -> UUID:
    """The next video in the queue, to its end."""
    queue = VideoQueue(pool, "first", 600.0)
    (video,) = queue.claim(1)
    attempt(pool, queue, video, workers)  # type: ignore[arg-type]
    return video.id


def ask(api: TestClient, method: str, path: str, user: UUID, status: int = 200, **sent: Any) -> Any:
    answer = api.request(method, path, headers=headers(user), **sent)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def take_over_clip(settings: Settings, tmp_path: Path) -> UUID:
    """Store the files of two of the existing videos, and queue that which is PENDING there."""
    for path in (f"{ANNA}/clip-4.mp4", f"{CARA}/clip-10.mp4"):
        stored = tmp_path / "stored" / path
        stored.parent.mkdir(parents=True)
        stored.write_bytes(CLIP.read_bytes())
    url = str(settings.database_url)
    assert take_over_left(settings, url, failed=False, dry=False, say=lambda _: None).queued == 1
    return clip(4)


def test_videos_of_an_existing_owner_live_their_whole_lives(
    api: TestClient, pool: Pool, workers: RealWorkers, settings: Settings, existing_url: str, tmp_path: Path
) -> None:
    original = take_snapshot(existing_url)
    taken = take_over_clip(settings, tmp_path)
    submit(pool, CARA, [Submission(uri=str(CLIP))], [OURS])
    ask(api, "POST", f"/v1/videos/{READY}/reprocess", CARA)
    assert {process(pool, workers) for _ in range(3)} == {taken, OURS, READY}
    ready = take_snapshot(existing_url)
    assert unexpected(original, ready, PROCESSED, [taken, READY], scenes=True) == []
    assert added(original, ready)["videos"] == 1
    owned = {taken: ANNA, OURS: CARA, READY: CARA}
    for video, owner in owned.items():
        _assert_ready_and_found(api, ready.rows["videos"][str(video)], owner)
    with connect(existing_url) as connection:
        (row,) = connection.execute("SELECT * FROM videos WHERE id = %s", (OURS,)).fetchall()
    assert list(row) == original.columns["videos"]

    for video, owner in owned.items():
        before = take_snapshot(existing_url)
        place = f"/v1/videos/{video}"
        assert ask(api, "POST", f"{place}/reprocess", owner)["status"] == "PENDING"
        assert ask(api, "POST", f"{place}/cancel", owner)["status"] == "CANCELLED"
        assert unexpected(before, take_snapshot(existing_url), STATE, [video]) == []
        _assert_found(api, video, owner)
        assert ask(api, "POST", f"{place}/retry", owner)["status"] == "PENDING"
        assert process(pool, workers) == video
        again = take_snapshot(existing_url)
        assert unexpected(before, again, PROCESSED, [video], scenes=True) == []
        _assert_ready_and_found(api, again.rows["videos"][str(video)], owner)
        ask(api, "DELETE", place, owner, 204)
        assert unexpected(again, take_snapshot(existing_url), FORGOTTEN, [video], scenes=True) == []
        assert video not in _found(api, owner)
    _assert_figures(existing_url)


def _assert_ready_and_found(api: TestClient, row: dict[str, str | None], owner: UUID) -> None:
    assert (row["status"], row["processing_stage"], row["error_message"]) == ("READY", "completed", None)
    assert None not in [row[name] for name in PROCESSED - {"error_message"}]
    video = UUID(row["id"])
    _assert_found(api, video, owner)
    detail = ask(api, "GET", f"/v1/videos/{video}", owner)
    assert len(detail["scenes"]) == len(truth(CLIP).scenes)
    assert {stage["outcome"] for stage in detail["stages"]} == {"completed"}
    assert SAID.split()[0].lower() in str(ask(api, "GET", f"/v1/videos/{video}/transcript", owner)).lower()


def _assert_found(api: TestClient, video: UUID, owner: UUID) -> None:
    assert video in _found(api, owner)


def _found(api: TestClient, owner: UUID) -> set[UUID]:
    items = ask(api, "GET", "/v1/search", owner, params={"q": SAID, "by": "words"})["items"]
    return {UUID(item["video_id"]) for item in items}


def _assert_figures(url: str) -> None:
    world = read_world(url)
    with connect(url) as connection:
        assert figures.get_processing_latency(connection, 1) == pytest.approx(reference.processing_latency(world, 1))
        assert figures.get_queue_analysis(connection, 1) == pytest.approx(reference.queue_analysis(world, 1))
        assert figures.get_overview(connection) == pytest.approx(reference.overview(world))
