"""The limits of an owner: submissions, retries and reprocessing within a minute, and quotas of all that."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from cluster.contracts.audit import owner
from cluster.contracts.errors import QuotaExceeded, TooManySubmissions
from cluster.contracts.quotas import MOST_PERIOD_H, UNTIMED_S, OwnerQuotas, SubmissionLimits
from cluster.contracts.results import StageFailure
from cluster.contracts.stages import Blame, Stage
from cluster.contracts.videos import ClaimedVideo, Submission
from cluster.store.postgres.connections import Pool
from cluster.store.queue.owner_requests import QuotaCharges, remove_old_requests
from cluster.store.queue.reprocessing import reprocess, retry
from cluster.store.queue.submissions import cancel, submit
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.videos.deletion import forget
from serve_app.limits import DEFAULT_LIMITS
from tests.support.api_client import ADMIN, ALICE, BOB, ApiMaker, headers
from tests.support.played_workers import INFO, Workers, attempt
from tests.support.queued_videos import (
    claim_one,
    enqueue,
    finish,
    only,
    paused,
    record_media,
    row,
    runs,
    until_a_session_waits,
)

ONE = {"uri": "https://example.org/a.mp4"}
FIVE = replace(DEFAULT_LIMITS, submissions_per_minute=5)
BROKEN = StageFailure("InvalidVideo", "it is no video", Blame.VIDEO)
HOUR_S = 3600.0


@pytest.fixture
def queue(pool: Pool) -> VideoQueue:
    return VideoQueue(pool, "first", 60.0)


def quotas(**given: Any) -> SubmissionLimits:
    return SubmissionLimits(quotas=OwnerQuotas(**given))


def ended(pool: Pool, queue: VideoQueue, duration_s: float = 60.0, owner_id: UUID = ALICE) -> UUID:
    """A FAILED video that was measured."""
    (video_id,) = submit(pool, owner_id, [Submission(uri="s3://bucket/a.mp4")])
    (video,) = queue.claim(1)
    record_media(pool, video, replace(INFO, duration_s=duration_s))
    queue.fail(video, "metadata", BROKEN)
    return video_id


def age(pool: Pool, hours: float) -> None:
    with pool.connection() as connection:
        connection.execute(
            "UPDATE owner_requests SET requested_at = requested_at - make_interval(secs => %s)", (hours * 3600,)
        )


def requests(pool: Pool) -> int:
    return int(only(pool, "SELECT count(*) AS n FROM owner_requests WHERE NOT exempt")["n"])


# Retries count as submissions


@pytest.mark.parametrize("path", ["retry", "reprocess"])
def test_retries_of_one_video_count_as_submissions(
    make_api: ApiMaker, pool: Pool, queue: VideoQueue, path: str
) -> None:
    api, video_id = make_api(limits=FIVE), ended(pool, queue)
    answers = []
    for _ in range(6):
        answers.append(api.post(f"/v1/videos/{video_id}/{path}", headers=headers(ALICE)))
        cancel(pool, [video_id])
    assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 2
    assert answers[-1].headers["retry-after"] == "60"
    assert "5 videos" in answers[-1].json()["detail"]
    assert api.post("/v1/videos", json=ONE, headers=headers(ALICE)).status_code == 429
    assert api.post("/v1/videos", json=ONE, headers=headers(BOB)).status_code == 202
    age(pool, 61 / 3600)
    assert api.post(f"/v1/videos/{video_id}/{path}", headers=headers(ALICE)).status_code == 200


def test_retries_beyond_the_limit_change_nothing(make_api: ApiMaker, pool: Pool, queue: VideoQueue) -> None:
    api, video_id = make_api(limits=FIVE), ended(pool, queue)
    assert api.post("/v1/videos", json=[ONE] * 4, headers=headers(ALICE)).status_code == 202
    before = row(pool, video_id)
    for path in ("retry", "reprocess"):
        assert api.post(f"/v1/videos/{video_id}/{path}", headers=headers(ALICE)).status_code == 429
    assert row(pool, video_id) == before


def test_retries_that_queue_nothing_count_nothing(make_api: ApiMaker, pool: Pool, queue: VideoQueue) -> None:
    api, other = make_api(limits=FIVE), ended(pool, queue, owner_id=BOB)
    (waiting,) = submit(pool, ALICE, [Submission(uri="s3://bucket/a.mp4")])
    for _ in range(10):
        assert api.post(f"/v1/videos/{waiting}/retry", headers=headers(ALICE)).status_code == 409
        assert api.post(f"/v1/videos/{other}/retry", headers=headers(ALICE)).status_code == 404
    assert api.post("/v1/videos", json=[ONE] * 4, headers=headers(ALICE)).status_code == 202


def test_retries_by_operators_are_not_the_owners(make_api: ApiMaker, pool: Pool, queue: VideoQueue) -> None:
    api, video_id = make_api(limits=FIVE), ended(pool, queue)
    for _ in range(6):
        answer = api.post("/v1/admin/failures/retry", json={"ids": [str(video_id)]}, headers=headers(ADMIN))
        assert answer.json() == {"retried": 1}
        cancel(pool, [video_id])
        assert reprocess(pool, [video_id]) == [video_id]
        cancel(pool, [video_id])
    assert api.post("/v1/videos", json=[ONE] * 4, headers=headers(ALICE)).status_code == 202


def test_retries_at_once_are_counted_one_by_one(database_url: str, pool: Pool, queue: VideoQueue) -> None:
    videos = [ended(pool, queue) for _ in range(2)]
    by = owner(ALICE, SubmissionLimits(3))

    def send(video_id: UUID) -> int:
        try:
            return len(retry(pool, [video_id], owner_id=ALICE, by=by))
        except TooManySubmissions:
            return 0

    with ThreadPoolExecutor(2) as threads:
        with paused(database_url, "videos", "UPDATE ON {} FOR EACH ROW"):
            sent = [threads.submit(send, video_id) for video_id in videos]
            until_a_session_waits(pool, 2)
        assert sorted(one.result(timeout=10) for one in sent) == [0, 1]


def test_a_deleted_or_changed_video_frees_no_submission(make_api: ApiMaker, pool: Pool) -> None:
    """As the owner of a row in an existing database may change it."""
    api = make_api(limits=FIVE)
    ids = api.post("/v1/videos", json=[ONE] * 5, headers=headers(ALICE)).json()["ids"]
    assert api.delete(f"/v1/videos/{ids[0]}", headers=headers(ALICE)).status_code == 204
    with pool.connection() as connection:
        connection.execute("UPDATE videos SET created_at = created_at - interval '1 year'")
    assert api.post("/v1/videos", json=ONE, headers=headers(ALICE)).status_code == 429


# Quotas


def test_a_quota_of_videos_counts_repeated_ones(make_api: ApiMaker, pool: Pool, queue: VideoQueue) -> None:
    api, video_id = make_api(quotas=OwnerQuotas(videos=3)), ended(pool, queue)
    assert api.post(f"/v1/videos/{video_id}/retry", headers=headers(ALICE)).status_code == 200
    refused = api.post("/v1/videos", json=[ONE] * 2, headers=headers(ALICE))
    assert refused.status_code == 429
    assert refused.json()["detail"] == (
        "The owner's quota of 3 videos within 24 hours leaves 1: try again later, or ask for less."
    )
    assert 86_000 < int(refused.headers["retry-after"]) <= 86_400
    assert api.post("/v1/videos", json=ONE, headers=headers(ALICE)).status_code == 202
    assert api.post("/v1/videos", json=ONE, headers=headers(ALICE)).status_code == 429
    assert api.post("/v1/videos", json=ONE, headers=headers(BOB)).status_code == 202
    age(pool, 24.1)
    assert api.post("/v1/videos", json=ONE, headers=headers(ALICE)).status_code == 202


def test_forgotten_videos_stay_counted(pool: Pool) -> None:
    ids = submit(pool, ALICE, [Submission(uri="s3://bucket/a.mp4")] * 2, limits=quotas(videos=2))
    assert set(forget(pool, ids)) == set(ids)
    with pytest.raises(QuotaExceeded, match="quota of 2 videos"):
        submit(pool, ALICE, [Submission(uri="s3://bucket/a.mp4")], limits=quotas(videos=2))


def test_a_repeated_submission_uses_no_quota(pool: Pool) -> None:
    ids, two = [uuid4(), uuid4()], [Submission(uri="s3://bucket/a.mp4")] * 2
    for _ in range(3):
        assert submit(pool, ALICE, two, ids, limits=quotas(videos=2, in_flight=2)) == ids
    assert requests(pool) == 2


def test_a_quota_in_flight_frees_when_videos_end(pool: Pool, queue: VideoQueue) -> None:
    two, limits = [Submission(uri="s3://bucket/a.mp4")] * 2, quotas(in_flight=3)
    first, _ = submit(pool, ALICE, two, limits=limits)
    (claimed,) = queue.claim(1)
    assert claimed.id == first
    with pytest.raises(QuotaExceeded, match="3 videos that wait or are processed"):
        submit(pool, ALICE, two, limits=limits)
    finish(queue, claimed)
    submit(pool, ALICE, two, limits=limits)
    with pytest.raises(QuotaExceeded):
        reprocess(pool, [first], owner_id=ALICE, by=owner(ALICE, limits))
    submit(pool, BOB, two, limits=limits)
    cancel(pool, [row_id["id"] for row_id in _waiting(pool)])
    assert reprocess(pool, [first], owner_id=ALICE, by=owner(ALICE, limits)) == [first]


def _waiting(pool: Pool) -> list[dict[str, Any]]:
    with pool.connection() as connection:
        return connection.execute(
            "SELECT id FROM videos WHERE status = 'PENDING' AND owner_id = %s", (ALICE,)
        ).fetchall()


@pytest.mark.parametrize(
    "limits", [quotas(videos=4), quotas(in_flight=4), SubmissionLimits(4)], ids=["videos", "in flight", "per minute"]
)
def test_no_quota_is_passed_by_submitting_at_once(pool: Pool, limits: SubmissionLimits) -> None:
    def send(_: int) -> int:
        try:
            return len(submit(pool, ALICE, [Submission(uri="s3://bucket/a.mp4")] * 2, limits=limits))
        except TooManySubmissions:
            return 0

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(send, range(16))) == 4
    assert only(pool, "SELECT count(*) AS n FROM videos")["n"] == 4


MEASURES: list[tuple[OwnerQuotas, str]] = [
    (OwnerQuotas(hours=2.0), "2 hours of video"),
    (OwnerQuotas(size_bytes=2 * INFO.size_bytes), f"{2 * INFO.size_bytes} bytes of video"),
]


@pytest.mark.parametrize(("given", "named"), MEASURES, ids=["hours", "bytes"])
def test_a_measured_video_beyond_a_quota_fails_in_metadata(
    pool: Pool, queue: VideoQueue, given: OwnerQuotas, named: str
) -> None:
    """A measure that is unknown at submission is judged once it is known, before it costs more."""
    submit(pool, ALICE, [Submission(uri="s3://bucket/a.mp4")] * 3, limits=SubmissionLimits(quotas=given))
    charges, workers = QuotaCharges(pool, given), Workers()
    workers.info = replace(INFO, duration_s=HOUR_S)
    for _ in range(3):
        (video,) = queue.claim(1)
        attempt(pool, queue, video, workers, charges=charges)
    stored = row(pool, video.id)
    assert (stored["status"], stored["processing_stage"], stored["error_type"]) == (
        "FAILED", "metadata", "QuotaExceeded",
    )  # fmt: skip
    assert named in stored["error_message"]
    assert stored["duration_s"] == HOUR_S
    assert set(runs(pool, video.id)) == {"downloading", "metadata"}
    assert only(pool, "SELECT count(*) AS n FROM videos WHERE status = 'READY'")["n"] == 2
    with pytest.raises(QuotaExceeded, match="leaves 0"):
        submit(pool, ALICE, [Submission(uri="s3://bucket/a.mp4")], limits=SubmissionLimits(quotas=given))
    with pytest.raises(QuotaExceeded):
        retry(pool, [video.id], owner_id=ALICE, by=owner(ALICE, SubmissionLimits(quotas=given)))
    age(pool, 24.1)
    assert retry(pool, [video.id], owner_id=ALICE, by=owner(ALICE, SubmissionLimits(quotas=given))) == [video.id]


def charged(pool: Pool) -> list[float | None]:
    with pool.connection() as connection:
        found = connection.execute("SELECT duration_s FROM owner_requests ORDER BY id").fetchall()
    return [one["duration_s"] for one in found]


def claimed(pool: Pool, queue: VideoQueue, count: int) -> list[ClaimedVideo]:
    submit(pool, ALICE, [Submission(uri="s3://bucket/a.mp4")] * count)
    return queue.claim(count)


def test_another_attempt_is_charged_once(pool: Pool, queue: VideoQueue) -> None:
    (video,) = claimed(pool, queue, 1)
    charges = QuotaCharges(pool, OwnerQuotas(hours=1.0))
    for _ in range(3):
        charges.charge(video, replace(INFO, duration_s=HOUR_S))
    assert charged(pool) == [HOUR_S]


def test_a_refused_video_leaves_the_rest_to_others(pool: Pool, queue: VideoQueue) -> None:
    small, large, other = claimed(pool, queue, 3)
    charges = QuotaCharges(pool, OwnerQuotas(hours=2.0))
    charges.charge(small, replace(INFO, duration_s=HOUR_S))
    with pytest.raises(QuotaExceeded):
        charges.charge(large, replace(INFO, duration_s=10 * HOUR_S))
    charges.charge(other, replace(INFO, duration_s=HOUR_S))
    assert charged(pool) == [HOUR_S, 0.0, HOUR_S]


def test_a_video_without_times_counts_as_an_hour(pool: Pool, queue: VideoQueue) -> None:
    first, second = claimed(pool, queue, 2)
    charges = QuotaCharges(pool, OwnerQuotas(hours=1.5))
    charges.charge(first, replace(INFO, duration_s=None))
    assert charged(pool) == [UNTIMED_S, None]
    with pytest.raises(QuotaExceeded):
        charges.charge(second, replace(INFO, duration_s=None))


def test_charges_at_once_do_not_pass_a_quota(database_url: str, pool: Pool, queue: VideoQueue) -> None:
    videos = claimed(pool, queue, 2)
    charges = QuotaCharges(pool, OwnerQuotas(hours=1.0))

    def charge(video: ClaimedVideo) -> int:
        try:
            charges.charge(video, replace(INFO, duration_s=HOUR_S))
        except QuotaExceeded:
            return 0
        return 1

    with ThreadPoolExecutor(2) as threads:
        with paused(database_url, "owner_requests", "UPDATE ON {} FOR EACH ROW"):
            charged_now = [threads.submit(charge, video) for video in videos]
            until_a_session_waits(pool, 2)
        assert sorted(one.result(timeout=10) for one in charged_now) == [0, 1]


def test_what_operators_ask_for_is_not_charged(pool: Pool, queue: VideoQueue) -> None:
    video_id = ended(pool, queue, 10 * HOUR_S)
    assert retry(pool, [video_id]) == [video_id]
    (video,) = queue.claim(1)
    QuotaCharges(pool, OwnerQuotas(hours=1.0)).charge(video, replace(INFO, duration_s=10 * HOUR_S))
    submit(pool, ALICE, [Submission(uri="s3://bucket/a.mp4")], limits=quotas(hours=1.0))


Heimdex = Callable[..., Any]


def test_the_command_says_which_quota_is_used_up(heimdex: Heimdex, pool: Pool) -> None:
    settings = {"HEIMDEX_QUOTA_VIDEOS": "2", "HEIMDEX_QUOTA_PERIOD_H": "48"}
    assert heimdex("submit", "s3://bucket/a.mp4", "s3://bucket/b.mp4", settings=settings).returncode == 0
    refused = heimdex("submit", "s3://bucket/c.mp4", settings=settings)
    assert refused.returncode == 2
    assert b"error: the owner's quota of 2 videos within 48 hours leaves 0" in refused.stderr
    assert heimdex("submit", "s3://bucket/c.mp4").returncode == 0
    assert only(pool, "SELECT count(*) AS n FROM videos")["n"] == 3


def test_old_requests_are_removed(pool: Pool) -> None:
    enqueue(pool, 2)
    age(pool, MOST_PERIOD_H + 1)
    enqueue(pool, 1)
    assert remove_old_requests(pool) == 2
    assert requests(pool) == 1


def test_a_stage_that_waits_for_the_owner_is_not_retried(pool: Pool, queue: VideoQueue) -> None:
    video = claim_one(pool, queue)
    charges = QuotaCharges(pool, OwnerQuotas(hours=0.001))
    attempt(pool, queue, video, Workers(), charges=charges)
    stored = row(pool, video.id)
    assert (stored["status"], stored["available_at"], stored["failures"]) == ("FAILED", None, 1)
    assert runs(pool, video.id)[Stage.METADATA]["error_type"] == "QuotaExceeded"
