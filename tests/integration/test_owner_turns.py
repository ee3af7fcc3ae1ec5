"""One owner's reads and changes at once cost the others neither a database session nor the event loop."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import fastapi.routing
import pytest

from cluster.contracts.results import Segment, Transcript, Word
from cluster.contracts.transcript_formats import TranscriptFormat
from cluster.contracts.videos import Submission
from cluster.store.postgres.connections import Pool, connect
from cluster.store.queue import submissions
from cluster.store.queue.stage_runs import latest_runs
from cluster.store.videos.videos import SCENES_OF_A_BATCH, read_video
from cluster.transcripts.formats import write_transcript
from serve_app import callers
from serve_app.auth import AuthRules, TokenVerifier
from serve_app.route_table import ADMIN_ROUTES, USER_ROUTES
from serve_app.routes import videos
from serve_app.schemas.videos import VideoDetail
from tests.support.api_client import ADMIN, ALICE, BOB, SECRET, ApiMaker, headers, make_picture
from tests.support.searchable import Scene, add_video

SCENES = 2 * SCENES_OF_A_BATCH + 3


class CountingVerifier(TokenVerifier):
    """Counts the requests that have arrived."""

    def __init__(self) -> None:
        super().__init__(AuthRules(SECRET, None, frozenset({ADMIN})))
        self.seen = 0

    def user_id(self, token: str) -> UUID:
        self.seen += 1
        return super().user_id(token)


def add_long_video(pool: Pool, database_url: str) -> UUID:
    """A video of Alice's with scenes of more than two batches."""
    add_video(pool, ALICE, [Scene("the tide is low", "red", ("sea",))])
    with connect(database_url) as connection:
        (row,) = connection.execute("SELECT id FROM videos WHERE owner_id = %s", (ALICE,)).fetchall()
        connection.execute(
            """
            INSERT INTO video_scenes (video_id, index, start_s, end_s, transcript_segment, visual_summary)
            SELECT %s, n, n * 10, n * 10 + 9.3, 'said "' || n || E'"\\n\\u2028ä', nullif('seen', repeat('seen', n %% 2))
            FROM generate_series(1, %s) AS n
            """,
            (row["id"], SCENES - 1),
        )
    found: UUID = row["id"]
    return found


def test_long_video_is_answered_with_the_bytes_of_its_model(make_api: ApiMaker, pool: Pool, database_url: str) -> None:
    video_id = add_long_video(pool, database_url)
    answer = make_api().get(f"/v1/videos/{video_id}", headers=headers(ALICE))
    video = read_video(pool, ALICE, video_id)
    assert video is not None
    stages = latest_runs(pool, [video_id], ALICE)[video_id]
    model = VideoDetail.model_validate({**video, "stages": stages}, from_attributes=True)
    assert len(model.scenes) == SCENES
    assert answer.content == model.model_dump_json().encode()
    assert answer.headers["content-type"] == "application/json"


def test_long_transcript_is_written_as_json_writes_it() -> None:
    words = (Word(0.5, 1.0, " Tide", 0.5), Word(1.0, 1.5, ' "low"ä', 0.25))
    for segments in ((), (Segment(0.5, 1.5, "a", words),), (Segment(0.5, 1.5, "]}", words), Segment(2, 3, "b", ()))):
        written = write_transcript(Transcript("en", segments, "m"), TranscriptFormat.JSON, 8.0)
        assert written == json.dumps(json.loads(written), ensure_ascii=False) + "\n"
        assert len(json.loads(written)["segments"]) == len(segments)


def test_no_route_of_users_and_admins_is_written_on_the_loop(
    make_api: ApiMaker, pool: Pool, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Any] = []
    by_fastapi = fastapi.routing.serialize_response

    async def noted(**values: Any) -> Any:
        if values["field"] is not None:
            written.append(values["endpoint_ctx"])
        return await by_fastapi(**values)

    monkeypatch.setattr(fastapi.routing, "serialize_response", noted)
    video_id, api, answered = add_long_video(pool, database_url), make_api(), 0
    with connect(database_url) as connection:
        (scene,) = connection.execute("SELECT id FROM video_scenes WHERE index = 0").fetchall()
    places = {"video_id": video_id, "user_id": ALICE, "scene_id": scene["id"], "job_id": ALICE}
    bodies = {"/v1/videos": {"uri": "https://a.org/a"}, "/v1/admin/videos/cancel": {"ids": [str(BOB)]}}
    for method, path in [(route.method, route.path) for route in USER_ROUTES + ADMIN_ROUTES]:
        sent = headers(ADMIN if "/admin/" in path else ALICE)
        body: dict[str, Any] = {"content": make_picture()} if "image" in path else {"json": bodies.get(path)}
        if method == "GET":
            body = {"params": {"q": "tide"}} if path == "/v1/search" else {}
        if method != "DELETE":
            answered += api.request(method, path.format(**places), headers=sent, **body).is_success
    assert answered > 18
    assert written == []


@contextmanager
def owner_locked(database_url: str) -> Iterator[None]:
    """Another session, such as another replica's, holds Alice's row."""
    with connect(database_url) as other:
        other.execute("INSERT INTO video_owners (owner_id) VALUES (%s) ON CONFLICT DO NOTHING", (ALICE,))
        other.commit()
        other.execute("SELECT FROM video_owners WHERE owner_id = %s FOR UPDATE", (ALICE,))
        yield
        other.rollback()


def waiting_sessions(database_url: str) -> int:
    """Sessions of this database that wait for a lock."""
    with connect(database_url, autocommit=True) as watcher:
        row = watcher.execute(
            "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
    assert row is not None
    found: int = row["n"]
    return found


def until(condition: Any) -> None:
    end_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_changes_of_one_owner_hold_one_session(
    make_api: ApiMaker, pool: Pool, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "OWNER_WAIT_S", 60.0)
    verifier = CountingVerifier()
    api = make_api(verifier=verifier)
    failed = str(submissions.submit(pool, ALICE, [Submission(uri="https://a.org/b")])[0])
    paths = ["/v1/videos", f"/v1/videos/{failed}/retry", f"/v1/videos/{failed}/reprocess", "/v1/videos"]
    seen: list[int] = []

    def change(number: int) -> int:
        body = {"uri": "https://a.org/a"} if paths[number % 4] == "/v1/videos" else None
        sent = headers(ALICE) | {"Idempotency-Key": str(number)}
        return api.post(paths[number % 4], json=body, headers=sent).status_code

    with ThreadPoolExecutor(16) as threads, owner_locked(database_url):
        changes = [threads.submit(change, number) for number in range(16)]
        until(lambda: verifier.seen == 16 and waiting_sessions(database_url))
        for _ in range(10):
            seen.append(waiting_sessions(database_url))
            time.sleep(0.05)
        assert api.get("/v1/videos", headers=headers(BOB)).status_code == 200
    assert set(seen) == {1}
    assert {one.result() for one in changes} == {202, 409}


def test_resent_submission_waits_for_and_writes_nothing(
    make_api: ApiMaker, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueued: list[int] = []
    enqueue = submissions._enqueue

    def counted(connection: Any, parameters: Any) -> None:
        enqueued.append(len(parameters["ids"]))
        enqueue(connection, parameters)

    monkeypatch.setattr(submissions, "_enqueue", counted)
    api, sent = make_api(), headers(ALICE) | {"Idempotency-Key": "batch"}
    body = [{"uri": f"https://a.org/{number}"} for number in range(1000)]

    def send(count: int) -> Any:
        return api.post("/v1/videos", json=body[:count], headers=sent).json()

    first = send(900)
    assert first == send(900)
    with owner_locked(database_url), ThreadPoolExecutor(1) as threads:
        assert threads.submit(send, 900).result(timeout=25) == first
    assert len(send(1000)["ids"]) == 1000  # what is new among it is written
    assert enqueued == [900, 1000]


def test_reads_of_one_owner_leave_the_others_theirs(
    make_api: ApiMaker, pool: Pool, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "OWNER_WAIT_S", 60.0)
    video_id, verifier, let = add_long_video(pool, database_url), CountingVerifier(), threading.Event()
    reading: list[int] = []

    def held(*asked: Any) -> Any:
        reading.append(1)
        assert let.wait(60)
        return latest_runs(*asked)

    monkeypatch.setattr(videos, "latest_runs", held)
    api = make_api(verifier=verifier)
    with ThreadPoolExecutor(12) as threads:
        reads = [threads.submit(api.get, f"/v1/videos/{video_id}", headers=headers(ALICE)) for _ in range(12)]
        until(lambda: verifier.seen == 12 and len(reading) >= callers.READS_AT_ONCE)
        time.sleep(0.5)
        running = len(reading)
        others = api.get("/v1/videos", headers=headers(BOB)).status_code
        let.set()
    assert (running, others) == (callers.READS_AT_ONCE, 200)
    assert {one.result().status_code for one in reads} == {200}
