"""A user's own videos over HTTP: submitting, listing, looking at one; no other user's."""

from typing import Any
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb
from starlette.testclient import TestClient

from cluster.contracts.videos import Submission
from cluster.store.postgres.connections import Pool
from cluster.store.queue.submissions import submit
from serve_app.routes.videos import MAX_SUBMISSIONS
from tests.support.api_client import ADMIN, ALICE, BOB, ApiMaker, headers

WARNING = {"code": "pictures_skipped", "message": "2 of 50 pictures could not be decoded: damaged"}
URI = "https://example.org/a%20talk.mp4"


def post(api: TestClient, body: Any, user_id: UUID = ALICE) -> Any:
    return api.post("/v1/videos", json=body, headers=headers(user_id))


def get(api: TestClient, path: str, user_id: UUID = ALICE, **parameters: Any) -> Any:
    response = api.get(path, params=parameters, headers=headers(user_id))
    assert response.status_code == 200, response.text
    return response.json()


def test_one_video_is_accepted_and_waits(api: TestClient, pool: Pool) -> None:
    response = post(api, {"uri": URI, "language": "en"})
    assert response.status_code == 202
    (video_id,) = response.json()["ids"]
    with pool.connection() as connection:
        row = connection.execute(
            "SELECT v.owner_id, storage_path, filename, status::text, language, processing_stage, "
            "queued_at IS NOT NULL AS queued FROM videos AS v JOIN video_processing ON video_id = id WHERE id = %s",
            (video_id,),
        ).fetchone()
    assert row == {
        "owner_id": ALICE,
        "storage_path": URI,
        "filename": "a talk.mp4",
        "status": "PENDING",
        "language": "en",
        "processing_stage": "queued",
        "queued": True,
    }


def test_many_videos_are_accepted_in_order(api: TestClient) -> None:
    uris = [f"s3://bucket/{number}.mp4" for number in range(MAX_SUBMISSIONS)]
    response = post(api, [{"uri": uri} for uri in uris])
    assert response.status_code == 202
    ids = response.json()["ids"]
    assert len(set(ids)) == MAX_SUBMISSIONS
    for number in (0, 1, MAX_SUBMISSIONS - 1):
        assert get(api, f"/v1/videos/{ids[number]}")["uri"] == uris[number]


BAD_BODIES: list[tuple[Any, str]] = [
    ({"uri": "/etc/passwd"}, "uri: a local path is not accepted here (allowed schemes: http, https, s3)"),
    ({"uri": "file:///etc/passwd"}, "uri: a local path is not accepted here"),
    ({"uri": "FILE:///etc/passwd"}, "uri: a local path is not accepted here"),
    ({"uri": "file:/etc/passwd"}, "uri: a local path is not accepted here"),
    ({"uri": "~/.ssh/id_rsa"}, "uri: a local path is not accepted here"),
    ({"uri": "local:///etc/passwd"}, "uri: local:// is not accepted here"),
    ({"uri": "zip://a::https://example.org/b"}, "uri: zip:// is not accepted here"),
    ([{"uri": URI}, {"uri": "ftp://example.org/a"}], "1.uri: ftp:// is not accepted here"),
    ({"uri": "https:///a.mp4"}, "uri: not a URL: https:///a.mp4"),
    ({"uri": "https://[broken/a.mp4"}, "uri: not a URL"),
    ({"uri": "https://user:secret@example.org/a.mp4"}, "uri: a URL with user or password is not read"),
    ({"uri": "http://0x7f000001/a.mp4"}, "uri: the URL's host is neither a plain name nor a full address"),
    ({"uri": "https://example.org/\x00"}, "uri: must not contain control characters"),
    ({"uri": "https://example.org/\r\nHost: b"}, "uri: a URL with control characters is not read"),
    ({"uri": "s3://clips/\x85"}, "uri: a URI with control characters is not read"),
    ({"uri": "s3:///a.mp4"}, "uri: not a URI, it names no host or bucket"),
    ({"uri": "s3://arn:aws:s3:::clips/a.mp4"}, "uri: not the name of a bucket"),
    ({"uri": ""}, "uri: String should have at least 1 character"),
    ({"uri": "https://example.org/" + "a" * 4096}, "uri: String should have at most 4096 characters"),
    (
        {"uri": URI, "language": "English"},
        "language: no language that can be transcribed; it is one of af, am,",
    ),
    ({"uri": URI, "owner_id": str(BOB)}, "owner_id: Extra inputs are not permitted"),
    ({}, "uri: Field required"),
    ([{"uri": URI}, {}], "1.uri: Field required"),
    ([], "List should have at least 1 item"),
    ([{"uri": URI}] * (MAX_SUBMISSIONS + 1), "List should have at most 1000 items"),
    ("text", "valid dictionary"),
    (None, "Field required"),
]


def test_a_bad_submission_is_400_and_nothing_is_enqueued(api: TestClient, pool: Pool) -> None:
    for body, sentence in BAD_BODIES:
        response = post(api, body)
        assert (response.status_code, list(response.json())) == (400, ["detail"]), body
        assert sentence in response.json()["detail"]
    with pool.connection() as connection:
        assert connection.execute("SELECT 1 FROM videos").fetchone() is None


def test_every_letter_that_people_write_is_accepted_in_a_name(api: TestClient) -> None:
    for name in ("s3://clips/a\u202fb \u200d\U0001f3ac.mp4", "https://example.org/d\u00e9j\u00e0\u00a0vu.mp4"):
        assert post(api, {"uri": name}).status_code == 202


def test_a_priority_is_kept(api: TestClient, pool: Pool) -> None:
    assert post(api, [{"uri": URI, "priority": 10}, {"uri": URI, "priority": -10}, {"uri": URI}]).status_code == 202
    with pool.connection() as connection:
        rows = connection.execute(
            "SELECT priority FROM videos JOIN video_processing ON video_id = id ORDER BY queued_at"
        ).fetchall()
    assert [row["priority"] for row in rows] == [10, -10, 0]


def test_a_submission_with_a_key_is_made_once(api: TestClient, pool: Pool) -> None:
    def send(key: str, body: Any, user_id: UUID = ALICE) -> Any:
        return api.post("/v1/videos", json=body, headers={**headers(user_id), "Idempotency-Key": key})

    two = [{"uri": URI}, {"uri": URI, "language": "en"}]
    first, again, other = (send(key, two).json()["ids"] for key in ("night of the 3rd", "night of the 3rd", "~"))
    assert first == again
    assert len({*first, *other}) == 4
    assert send("night of the 3rd", two, BOB).json()["ids"] != first
    longer = send("night of the 3rd", [*two, {"uri": URI}]).json()["ids"]
    assert (longer[:2], len(longer)) == (first, 3)
    with pool.connection() as connection:
        assert connection.execute("SELECT count(*) AS n FROM videos").fetchone() == {"n": 7}


def test_a_key_belongs_to_one_submission(api: TestClient, pool: Pool) -> None:
    named = {**headers(ALICE), "Idempotency-Key": "k"}
    assert api.post("/v1/videos", json={"uri": URI}, headers=named).status_code == 202
    others: list[Any] = [
        [{"uri": f"{URI}?2"}, {"uri": URI}],
        {"uri": URI, "language": "en"},
        {"uri": URI, "priority": 1},
    ]
    for body in others:
        other = api.post("/v1/videos", json=body, headers=named)
        assert (other.status_code, "another submission" in other.json()["detail"]) == (409, True)
    with pool.connection() as connection:
        assert connection.execute("SELECT count(*) AS n FROM videos").fetchone() == {"n": 1}


def test_a_key_is_printable_and_has_an_end(api: TestClient, pool: Pool) -> None:
    authorization = headers(ALICE)["Authorization"].encode()
    for key in (b"", b"a" * 256, b"\t", b"a\tb", b"\xc3\xa9", b"\x7f"):
        sent = {b"Authorization": authorization, b"Idempotency-Key": key}
        answer = api.post("/v1/videos", json={"uri": URI}, headers=sent)
        assert (answer.status_code, list(answer.json())) == (400, ["detail"]), key
        assert answer.json()["detail"].startswith("Idempotency-Key: "), answer.text
    assert post(api, {"uri": URI}).status_code == 202
    with pool.connection() as connection:
        assert connection.execute("SELECT count(*) AS n FROM videos").fetchone() == {"n": 1}


def test_waiting_or_running_video_can_be_cancelled_and_retried(api: TestClient, pool: Pool) -> None:
    waiting, claimed = submit(pool, ALICE, [Submission(uri=URI), Submission(uri=URI)])
    with pool.connection() as connection:
        connection.execute("UPDATE videos SET status = 'PROCESSING' WHERE id = %s", (claimed,))
        connection.execute(
            "UPDATE video_processing SET attempt = 1, available_at = NULL WHERE video_id = %s", (claimed,)
        )
        connection.execute(
            "INSERT INTO video_leases (video_id, lease_token, scheduler, expires_at) "
            "VALUES (%s, nextval('video_lease_tokens'), 's', clock_timestamp() + interval '60 s')",
            (claimed,),
        )
    for video_id in (waiting, claimed):
        for _ in range(2):  # again, as a caller that did not get the answer would
            answer = act(api, video_id, "cancel")
            assert (answer.status_code, answer.json()["id"], answer.json()["status"]) == (
                200,
                str(video_id),
                "CANCELLED",
            )
    assert {video["id"] for video in get(api, "/v1/videos", status="CANCELLED")["items"]} == {
        str(waiting),
        str(claimed),
    }
    with pool.connection() as connection:
        assert connection.execute("SELECT 1 FROM video_leases").fetchone() is None
    again = act(api, waiting, "retry")
    assert (again.status_code, again.json()["status"], again.json()["processing_stage"]) == (200, "PENDING", "queued")
    assert act(api, waiting, "cancel").json()["status"] == "CANCELLED"


def test_what_failed_can_be_tried_again(api: TestClient, pool: Pool) -> None:
    (video_id,) = submit(pool, ALICE, [Submission(uri=URI)])
    stand(pool, video_id, "FAILED")
    answer = act(api, video_id, "retry")
    assert (answer.status_code, answer.json()["status"], answer.json()["error_message"]) == (200, "PENDING", None)


def test_request_that_the_state_forbids_is_409_without_effect(api: TestClient, pool: Pool) -> None:
    (video_id,) = submit(pool, ALICE, [Submission(uri=URI)])
    for status, action in (
        ("PENDING", "retry"),
        ("PROCESSING", "retry"),
        ("READY", "retry"),
        ("READY", "cancel"),
        ("FAILED", "cancel"),
    ):
        stand(pool, video_id, status)
        answer = act(api, video_id, action)
        assert (answer.status_code, list(answer.json())) == (409, ["detail"]), (status, action)
        assert answer.json()["detail"].startswith(f"The video is {status}: only ")
        assert get(api, f"/v1/videos/{video_id}")["status"] == status


def test_other_users_videos_cannot_be_cancelled_or_retried(api: TestClient, pool: Pool) -> None:
    (video_id,) = submit(pool, ALICE, [Submission(uri=URI)])
    for status, action in (("PENDING", "cancel"), ("FAILED", "retry"), ("READY", "cancel")):
        stand(pool, video_id, status)
        for other in (BOB, ADMIN):
            answer = act(api, video_id, action, other)
            assert (answer.status_code, answer.json()) == (404, {"detail": "There is no such video."})
        assert get(api, f"/v1/videos/{video_id}")["status"] == status
    assert act(api, uuid4(), "cancel").status_code == act(api, uuid4(), "retry").status_code == 404


def stand(pool: Pool, video_id: UUID, status: str) -> None:
    """Let the video be in this state."""
    with pool.connection() as connection:
        connection.execute("UPDATE videos SET status = %s::video_status WHERE id = %s", (status, video_id))


def act(api: TestClient, video_id: UUID, action: str, user_id: UUID = ALICE) -> Any:
    return api.post(f"/v1/videos/{video_id}/{action}", headers=headers(user_id))


def test_what_is_not_json_is_400(api: TestClient) -> None:
    for content in (b"{", b"\xff", b"", b'{"uri": "\\ud800"}', b"[" * 100_000):
        response = api.post(
            "/v1/videos", content=content, headers={**headers(ALICE), "Content-Type": "application/json"}
        )
        assert (response.status_code, list(response.json())) == (400, ["detail"]), content[:20]


def test_local_paths_are_accepted_where_they_are_allowed(make_api: ApiMaker) -> None:
    api = make_api(allowed_schemes=frozenset({"file"}))
    assert post(api, {"uri": "/srv/videos/a.mp4"}).status_code == 202
    assert "allowed schemes: file" in post(api, {"uri": URI}).json()["detail"]


def test_videos_are_listed_latest_first_by_page_and_status(api: TestClient, pool: Pool) -> None:
    ids = [str(i) for i in submit(pool, ALICE, [Submission(uri=f"{URI}?{n}") for n in range(5)])]
    with pool.connection() as connection:
        connection.execute(
            "UPDATE videos SET status = 'FAILED', processing_stage = 'metadata', error_message = 'no pictures' "
            "WHERE id = %s",
            (ids[1],),
        )
    page = get(api, "/v1/videos", page_size=2)
    assert [video["id"] for video in page["items"]] == [ids[4], ids[3]]
    assert (page["page"], page["page_size"], page["total_videos"]) == (1, 2, 5)
    assert [video["id"] for video in get(api, "/v1/videos", page=3, page_size=2)["items"]] == [ids[0]]
    (failed,) = get(api, "/v1/videos", status="FAILED")["items"]
    assert (failed["id"], failed["processing_stage"], failed["error_message"]) == (
        ids[1],
        "metadata",
        "no pictures",
    )
    assert get(api, "/v1/videos", status="READY") == {
        "items": [],
        "page": 1,
        "page_size": 50,
        "total_videos": 0,
    }
    wrong = api.get("/v1/videos?status=DONE", headers=headers(ALICE))
    assert wrong.status_code == 400
    assert "'PENDING', 'PROCESSING', 'READY', 'FAILED' or 'CANCELLED'" in wrong.json()["detail"]


def test_a_video_is_shown_with_its_latest_stages_and_scenes(api: TestClient, pool: Pool) -> None:
    (video_id,) = submit(pool, ALICE, [Submission(uri=URI)])
    with pool.connection() as connection:
        connection.execute(
            """
            WITH p AS (
                UPDATE video_processing SET attempt = 2, width = 640, height = 360, fps = 25, file_size_bytes = 1000
                WHERE video_id = %s
            )
            UPDATE videos SET status = 'READY', duration_s = 8, processing_stage = 'completed',
                processing_started_at = queued_at + interval '1500 ms',
                processing_finished_at = queued_at + interval '5500 ms', processing_duration_ms = 4000
            WHERE id = %s
            """,
            (video_id, video_id),
        )
        for attempt, stage, outcome, error in (
            (1, "downloading", "failed", "TransientFailure"),
            (2, "downloading", "completed", None),
            (2, "metadata", "completed", None),
        ):
            connection.execute(
                """
                INSERT INTO video_stage_runs (video_id, attempt, stage, outcome, ready_at, started_at,
                                              finished_at, wait_ms, run_ms, error_type)
                SELECT %s, %s, %s, %s, m, m + interval '10 ms', m + interval '30 ms', 10, 20, %s
                FROM (SELECT clock_timestamp() AS m) AS clock
                """,
                (video_id, attempt, stage, outcome, error),
            )
        connection.execute(
            "INSERT INTO video_transcripts (video_id, language, model, word_count, segments) "
            "VALUES (%s, 'en', 'tiny.en', 7, '[]')",
            (video_id,),
        )
        for index in (1, 0):
            connection.execute(
                "INSERT INTO video_scenes (video_id, index, start_s, end_s, transcript_segment, tags) "
                "VALUES (%s, %s, %s, %s, 'hello', '{red,circle}')",
                (video_id, index, index * 4.0, index * 4.0 + 4.0),
            )
        connection.execute(
            "UPDATE video_processing SET warnings = %s WHERE video_id = %s", (Jsonb([WARNING]), video_id)
        )
    assert get(api, "/v1/videos")["items"][0]["warnings"] == [WARNING]
    video = get(api, f"/v1/videos/{video_id}")
    assert (video["queue_ms"], video["processing_ms"], video["rtf"]) == (1500.0, 4000, 0.5)
    assert video["warnings"] == [WARNING]
    assert (video["language"], video["words"], video["width"], video["fps"]) == ("en", 7, 640, 25.0)
    assert video["stages"] == [
        {"name": name, "attempt": 2, "outcome": "completed", "wait_ms": 10.0, "run_ms": 20.0}
        for name in ("downloading", "metadata")
    ]
    assert [(s["index"], s["start_s"], s["end_s"]) for s in video["scenes"]] == [(0, 0.0, 4.0), (1, 4.0, 8.0)]
    assert video["scenes"][0]["tags"] == ["red", "circle"]


def test_another_users_videos_are_as_if_they_did_not_exist(api: TestClient, pool: Pool) -> None:
    (video_id,) = submit(pool, ALICE, [Submission(uri=URI)])
    missing = {"detail": "There is no such video."}
    for other in (BOB, ADMIN):
        response = api.get(f"/v1/videos/{video_id}", headers=headers(other))
        assert (response.status_code, response.json()) == (404, missing)
        assert get(api, "/v1/videos", other)["total_videos"] == 0
    unknown = api.get(f"/v1/videos/{uuid4()}", headers=headers(ALICE))
    assert (unknown.status_code, unknown.json()) == (404, missing)
    assert api.get("/v1/videos/7", headers=headers(ALICE)).status_code == 400
