"""The actions of admins on videos that failed or are not wanted: see why, let them be tried again, cancel them."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from starlette.testclient import TestClient

from cluster.contracts.stages import Stage
from cluster.contracts.videos import Submission
from cluster.store.postgres.connections import Pool
from cluster.store.queue.submissions import submit
from cluster.store.videos.shown_status import SHOWN_STATUS
from tests.support.api_client import ADMIN, ALICE, BOB, headers

SECRET_URI = "https://user:password@example.org/talk.mp4?signature=secret"


@pytest.fixture
def failed(pool: Pool) -> list[UUID]:
    """Three videos of Alice and Bob that FAILED, the last first; beside them one that waits and one that is READY."""
    ids = submit(pool, ALICE, [Submission(uri=SECRET_URI), Submission(uri=SECRET_URI)])
    ids += submit(pool, BOB, [Submission(uri="s3://bucket/film.mp4")])
    _, ready = submit(pool, BOB, [Submission(uri="s3://bucket/waits.mp4"), Submission(uri="s3://bucket/ready.mp4")])
    with pool.connection() as connection:
        connection.execute("UPDATE videos SET status = 'READY' WHERE id = %s", (ready,))
        for number, (video_id, stage) in enumerate(
            zip(ids, ("metadata", "transcription", "transcription"), strict=True)
        ):
            connection.execute(
                "WITH p AS (UPDATE video_processing SET attempt = 3, crashes = 2, failures = 1, available_at = NULL, "
                "error_type = 'WorkerLost' WHERE video_id = %s) "
                "UPDATE videos SET status = 'FAILED', processing_stage = %s, error_message = 'the worker died', "
                "processing_started_at = clock_timestamp(), processing_duration_ms = 1000, "
                "processing_finished_at = clock_timestamp() + make_interval(secs => %s) WHERE id = %s",
                (video_id, stage, number, video_id),
            )
    return ids[::-1]


def quarantine(api: TestClient, **parameters: Any) -> Any:
    answer = api.get("/v1/admin/failures/quarantine", params=parameters, headers=headers(ADMIN))
    assert answer.status_code == 200, answer.text
    return answer.json()


def act(api: TestClient, path: str, body: Any = None) -> Any:
    return api.post(f"/v1/admin/{path}", headers=headers(ADMIN), **({} if body is None else {"json": body}))


def statuses(pool: Pool, ids: list[UUID]) -> list[str]:
    with pool.connection() as connection:
        rows = connection.execute(
            f"SELECT v.id, {SHOWN_STATUS} AS status FROM videos AS v "
            "LEFT JOIN video_processing AS p ON p.video_id = v.id WHERE v.id = ANY (%s)",
            (ids,),
        ).fetchall()
    found = {row["id"]: row["status"] for row in rows}
    return [found[video_id] for video_id in ids]


def test_quarantine_says_whose_videos_failed_where_and_why(api: TestClient, failed: list[UUID]) -> None:
    page = quarantine(api)
    assert (page["page"], page["page_size"], page["total_videos"]) == (1, 50, 3)
    assert [UUID(item["id"]) for item in page["items"]] == failed
    last = page["items"][-1]
    assert last.pop("failed_at")
    assert last == {
        "id": str(failed[-1]),
        "owner_id": str(ALICE),
        "filename": "talk.mp4",
        "uri": "https://example.org/talk.mp4",
        "stage": "metadata",
        "error_type": "WorkerLost",
        "error_message": "the worker died",
        "attempts": 3,
        "crashes": 2,
    }


def test_quarantine_is_paged_and_can_be_asked_for_one_stage(api: TestClient, failed: list[UUID]) -> None:
    second = quarantine(api, page=2, page_size=2)
    assert ([UUID(item["id"]) for item in second["items"]], second["total_videos"]) == (failed[2:], 3)
    transcribed = quarantine(api, stage="transcription")
    assert [UUID(item["id"]) for item in transcribed["items"]] == failed[:2]
    assert quarantine(api, stage="indexing") == {"items": [], "page": 1, "page_size": 50, "total_videos": 0}
    for parameters in ({"stage": "upload"}, {"page": 0}, {"page_size": 101}, {"page": "9" * 30}):
        answer = api.get("/v1/admin/failures/quarantine", params=parameters, headers=headers(ADMIN))
        assert (answer.status_code, list(answer.json())) == (400, ["detail"])


@pytest.mark.parametrize("body", [{"all": True}, {"stage": None, "ids": None, "all": True}])
def test_all_that_failed_are_tried_again(api: TestClient, pool: Pool, failed: list[UUID], body: Any) -> None:
    answer = act(api, "failures/retry", body)
    assert (answer.status_code, answer.json()) == (200, {"retried": 3})
    assert statuses(pool, failed) == ["PENDING"] * 3
    assert act(api, "failures/retry", body).json() == {"retried": 0}


@pytest.mark.parametrize("body", [None, {}, {"stage": None, "ids": None, "all": None}, {"all": False}, {"all": 1}])
def test_retry_without_a_filter_is_refused(api: TestClient, pool: Pool, failed: list[UUID], body: Any) -> None:
    answer = act(api, "failures/retry", body)
    assert (answer.status_code, list(answer.json())) == (400, ["detail"])
    assert statuses(pool, failed) == ["FAILED"] * 3


def test_retry_of_an_unreadable_video_needs_its_id(api: TestClient, pool: Pool, failed: list[UUID]) -> None:
    with pool.connection() as connection:
        connection.execute("UPDATE video_processing SET error_type = 'InvalidVideo' WHERE video_id = %s", (failed[0],))
    assert act(api, "failures/retry", {"all": True}).json() == {"retried": 2}
    assert statuses(pool, failed) == ["FAILED", "PENDING", "PENDING"]
    assert act(api, "failures/retry", {"ids": [str(failed[0])]}).json() == {"retried": 1}


def test_those_of_a_stage_are_tried_again(api: TestClient, pool: Pool, failed: list[UUID]) -> None:
    assert act(api, "failures/retry", {"stage": "transcription"}).json() == {"retried": 2}
    assert statuses(pool, failed) == ["PENDING", "PENDING", "FAILED"]


def test_those_that_are_named_are_tried_again(api: TestClient, pool: Pool, failed: list[UUID]) -> None:
    ids = [str(failed[0]), str(failed[2]), str(uuid4())]
    assert act(api, "failures/retry", {"ids": ids, "stage": "metadata"}).json() == {"retried": 1}
    assert statuses(pool, failed) == ["FAILED", "FAILED", "PENDING"]
    assert act(api, "failures/retry", {"ids": ids}).json() == {"retried": 1}
    assert statuses(pool, failed) == ["PENDING", "FAILED", "PENDING"]


def test_a_slip_of_the_pen_does_not_retry_all(api: TestClient, pool: Pool, failed: list[UUID]) -> None:
    slips: list[Any] = [
        {"stages": "transcription"},
        {"stage": "transcribing"},
        {"stage": ""},
        {"ids": []},
        {"ids": "all"},
        {"ids": ["all"]},
        {"ids": [str(failed[0])] * 1001},
        [],
        "transcription",
    ]
    for body in slips:
        answer = act(api, "failures/retry", body)
        assert (answer.status_code, list(answer.json())) == (400, ["detail"]), body
    assert "'metadata'" in act(api, "failures/retry", {"stage": "transcribing"}).json()["detail"]
    form = api.post("/v1/admin/failures/retry", data={"stage": "metadata"}, headers=headers(ADMIN))
    assert (form.status_code, list(form.json())) == (415, ["detail"])
    assert statuses(pool, failed) == ["FAILED"] * 3


def test_videos_of_anybody_can_be_cancelled(api: TestClient, pool: Pool, failed: list[UUID]) -> None:
    (first,), (second,) = (submit(pool, owner, [Submission(uri="s3://bucket/a.mp4")]) for owner in (ALICE, BOB))
    answer = act(api, "videos/cancel", {"ids": [str(video) for video in (first, second, failed[0], uuid4())]})
    assert answer.status_code == 200
    assert set(answer.json()["cancelled"]) == {str(first), str(second)}
    assert statuses(pool, [first, second, failed[0]]) == ["CANCELLED", "CANCELLED", "FAILED"]
    assert act(api, "videos/cancel", {"ids": [str(first)]}).json() == {"cancelled": []}
    slips: list[Any] = [None, {}, {"ids": []}, {"ids": None}, {"ids": [7]}, {"id": str(first)}]
    for body in slips:
        refused = act(api, "videos/cancel", body)
        assert (refused.status_code, list(refused.json())) == (400, ["detail"]), body


def test_every_stage_can_be_asked_for(api: TestClient) -> None:
    for stage in Stage:
        assert quarantine(api, stage=stage)["total_videos"] == 0
        assert act(api, "failures/retry", {"stage": stage}).json() == {"retried": 0}
