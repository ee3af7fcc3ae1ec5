"""The durable queue of videos: submit, claim under a lease, heartbeat, finish, fail, retry, reap.

Every write about a claimed video matches its lease token; zero rows mean that the lease is lost, and the caller
must stop and discard. All times are the database's clock. Stage runs are the ledger's, scenes are ``scenes``'.
"""

from collections.abc import Iterator, Sequence
from uuid import UUID

from psycopg import OperationalError
from psycopg.rows import class_row

from cluster.contracts.errors import DatabaseUnavailable, LeaseLost
from cluster.contracts.media import MediaInfo
from cluster.contracts.results import StageFailure
from cluster.contracts.videos import ClaimedVideo, Submission
from cluster.storage import filename_of
from cluster.store.database import Pool, connect, place

CHANNEL = "heimdex_queue"
"""NOTIFY channel: a hint that something became claimable; whoever listens polls as well."""
SCHEDULER_DIED = "the scheduler that ran this stage died"

_SUBMIT = """
-- Enqueue videos; a microsecond between them keeps the order in which they were given.
INSERT INTO videos (id, owner_id, storage_path, filename, language, status, processing_stage, queued_at, available_at)
SELECT gen_random_uuid(), %(owner)s, uri, filename, language, 'PENDING', 'queued',
       moment + position * interval '1 microsecond', moment
FROM (SELECT clock_timestamp() AS moment) AS clock,
     unnest(%(uris)s::text[], %(filenames)s::text[], %(languages)s::text[])
         WITH ORDINALITY AS row (uri, filename, language, position)
ORDER BY position
RETURNING id
"""

_CLAIM = """
-- Lease up to n waiting videos to a scheduler; times are cut to milliseconds so that durations are exact in them.
WITH waiting AS MATERIALIZED (
    SELECT id FROM videos
    WHERE status = 'PENDING' AND available_at <= clock_timestamp()
    ORDER BY available_at, queued_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE videos AS v
    SET status = 'PROCESSING', attempt = v.attempt + 1, processing_stage = 'queued', updated_at = clock_timestamp(),
        processing_started_at = greatest(date_trunc('milliseconds', clock_timestamp()),
                                         date_trunc('milliseconds', v.queued_at + interval '999 microseconds')),
        processing_finished_at = NULL, processing_duration_ms = NULL, error_type = NULL, error_message = NULL
    FROM waiting WHERE v.id = waiting.id
    RETURNING v.id, v.storage_path, v.filename, v.language, v.attempt, v.failures, v.queued_at,
              v.processing_started_at
), leased AS (
    INSERT INTO video_leases (video_id, lease_token, scheduler, expires_at)
    SELECT id, nextval('video_lease_tokens'), %(scheduler)s, clock_timestamp() + make_interval(secs => %(lease_s)s)
    FROM claimed
    RETURNING video_id, lease_token
)
SELECT c.id, c.storage_path AS uri, c.filename, c.language, c.attempt, c.failures, l.lease_token, c.queued_at,
       c.processing_started_at AS claimed_at
FROM claimed AS c JOIN leased AS l ON l.video_id = c.id
ORDER BY c.queued_at, c.id
"""

_HEARTBEAT = """
-- Prolong every lease that this scheduler holds; the answer says which it still holds. Leases are locked in order of
-- their tokens, here and wherever several are, so that nobody waits for each other.
WITH held AS MATERIALIZED (
    SELECT video_id FROM video_leases
    WHERE scheduler = %(scheduler)s AND lease_token = ANY (%(tokens)s)
    ORDER BY lease_token FOR NO KEY UPDATE
)
UPDATE video_leases AS l SET expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
FROM held WHERE l.video_id = held.video_id
RETURNING l.lease_token
"""

_RECORD_MEDIA = """
-- What the probe found; an unknown duration stays as it was.
WITH lease AS MATERIALIZED (
    SELECT video_id FROM video_leases WHERE video_id = %(id)s AND lease_token = %(token)s FOR KEY SHARE
)
UPDATE videos AS v
SET duration_s = coalesce(%(duration_s)s, v.duration_s), file_size_bytes = %(size_bytes)s,
    width = %(width)s, height = %(height)s, fps = %(fps)s
FROM lease WHERE v.id = lease.video_id
"""

_FINISH = """
-- READY: the lease ends, the last stage run is closed and the video's timings are set at one and the same moment.
WITH clock AS MATERIALIZED (
    SELECT date_trunc('milliseconds', clock_timestamp()) AS moment
), lease AS (
    DELETE FROM video_leases WHERE video_id = %(id)s AND lease_token = %(token)s RETURNING video_id
), finished AS (
    UPDATE videos AS v
    SET status = 'READY', processing_stage = 'completed', available_at = NULL,
        processing_finished_at = clock.moment, updated_at = clock.moment,
        processing_duration_ms =
            round(extract(epoch FROM clock.moment - v.processing_started_at) * 1000)::integer
    FROM lease, clock WHERE v.id = lease.video_id
    RETURNING v.id, v.attempt, clock.moment
)
UPDATE video_stage_runs AS r
SET outcome = 'completed',
    finished_at = greatest(f.moment, r.ready_at),
    started_at = greatest(f.moment - make_interval(secs => %(run_s)s), r.ready_at),
    run_ms = extract(epoch FROM greatest(f.moment, r.ready_at)
                     - greatest(f.moment - make_interval(secs => %(run_s)s), r.ready_at)) * 1000,
    wait_ms = extract(epoch FROM greatest(f.moment - make_interval(secs => %(run_s)s), r.ready_at) - r.ready_at) * 1000,
    node = %(node)s, worker = %(worker)s, device = 'cpu', resource_s = %(run_s)s, batch_size = 1
FROM finished AS f
WHERE r.video_id = f.id AND r.attempt = f.attempt AND r.stage = 'finalizing' AND r.outcome = 'running'
"""

_END_ATTEMPT = """lease AS (
    DELETE FROM video_leases WHERE video_id = %(id)s AND lease_token = %(token)s RETURNING video_id
), left_open AS (
    UPDATE video_stage_runs AS r
    SET outcome = 'lost', finished_at = greatest(clock_timestamp(), r.ready_at),
        wait_ms = extract(epoch FROM greatest(clock_timestamp(), r.ready_at) - r.ready_at) * 1000, run_ms = 0,
        error_type = 'WorkerLost', error_message = 'the attempt ended while this stage was open'
    FROM lease WHERE r.video_id = lease.video_id AND r.outcome = 'running'
)"""
"""The lease ends, and with it every stage run that is open: without a lease nobody would ever close it."""

_FAIL = (
    """
-- FAILED for good: the stage that failed stays in processing_stage.
WITH clock AS MATERIALIZED (
    SELECT date_trunc('milliseconds', clock_timestamp()) AS moment
), """
    + _END_ATTEMPT
    + """
UPDATE videos AS v
SET status = 'FAILED', failures = v.failures + 1, processing_stage = %(stage)s,
    error_type = %(error_type)s, error_message = %(error_message)s,
    processing_finished_at = clock.moment, updated_at = clock.moment, available_at = NULL,
    processing_duration_ms = round(extract(epoch FROM clock.moment - v.processing_started_at) * 1000)::integer
FROM lease, clock WHERE v.id = lease.video_id
"""
)

_RETRY = (
    """
-- PENDING again: queued anew from now on, claimable after the delay; the reason stays to be read.
WITH """
    + _END_ATTEMPT
    + """
UPDATE videos AS v
SET status = 'PENDING', failures = v.failures + 1, processing_stage = 'queued',
    error_type = %(error_type)s, error_message = %(error_message)s,
    queued_at = clock_timestamp(), available_at = clock_timestamp() + make_interval(secs => %(delay_s)s),
    processing_started_at = NULL, updated_at = clock_timestamp()
FROM lease WHERE v.id = lease.video_id
"""
)

_TAKE_BACK = """
-- Take back leases: close the open stage runs as lost, naming the stage, and let the video wait again, or fail it there
-- when this counts as a failure and too many are reached. Locking re-checks what is chosen on the latest row, so a
-- heartbeat that came in between wins.
WITH candidates AS MATERIALIZED (
    SELECT video_id FROM video_leases WHERE {chosen} ORDER BY lease_token {locking}
), released AS (
    DELETE FROM video_leases AS l USING candidates AS c WHERE l.video_id = c.video_id RETURNING l.video_id
), lost AS (
    UPDATE video_stage_runs AS r
    SET outcome = 'lost', finished_at = greatest(clock_timestamp(), r.ready_at),
        wait_ms = extract(epoch FROM greatest(clock_timestamp(), r.ready_at) - r.ready_at) * 1000, run_ms = 0,
        error_type = 'WorkerLost', error_message = %(reason)s
    FROM released WHERE r.video_id = released.video_id AND r.outcome = 'running'
    RETURNING r.video_id, r.stage, r.ready_at
), last_stage AS (
    SELECT DISTINCT ON (video_id) video_id, stage FROM lost ORDER BY video_id, ready_at DESC, stage
), verdict AS (
    SELECT v.id, v.failures + %(counted)s AS failures, v.failures + %(counted)s >= %(max_attempts)s AS spent,
           coalesce(s.stage, nullif(v.processing_stage, 'queued'), 'failed') AS stage,
           date_trunc('milliseconds', clock_timestamp()) AS moment
    FROM released JOIN videos AS v ON v.id = released.video_id
    LEFT JOIN last_stage AS s ON s.video_id = released.video_id
)
UPDATE videos AS v
SET status = CASE WHEN spent THEN 'FAILED' ELSE 'PENDING' END::video_status,
    failures = verdict.failures,
    processing_stage = CASE WHEN spent THEN stage ELSE 'queued' END,
    error_type = CASE WHEN %(counted)s > 0 THEN 'WorkerLost' END,
    error_message = CASE WHEN %(counted)s > 0 THEN %(reason)s END,
    queued_at = CASE WHEN spent THEN v.queued_at ELSE moment END,
    available_at = CASE WHEN spent THEN NULL ELSE moment END,
    processing_started_at = CASE WHEN spent THEN v.processing_started_at END,
    processing_finished_at = CASE WHEN spent THEN moment END,
    processing_duration_ms =
        CASE WHEN spent THEN round(extract(epoch FROM moment - v.processing_started_at) * 1000)::integer END,
    updated_at = moment
FROM verdict WHERE v.id = verdict.id AND v.status = 'PROCESSING'
RETURNING v.id
"""
# Somebody who writes under a lease that has just expired is still at work: pass it over.
_REAP = _TAKE_BACK.format(chosen="expires_at < clock_timestamp()", locking="LIMIT %(limit)s FOR UPDATE SKIP LOCKED")
# One's own are waited for: a heartbeat or a ledger write that is under way must not leave a video behind.
_TAKE_BACK_OWN = _TAKE_BACK.format(chosen="scheduler = %(scheduler)s", locking="FOR UPDATE")


def submit(pool: Pool, owner_id: UUID, submissions: Sequence[Submission]) -> list[UUID]:
    """Enqueue videos; returns their ids in the order given. The owner gets a profile when it has none."""
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO user_profiles (user_id) VALUES (%s) ON CONFLICT (user_id) DO NOTHING", (owner_id,)
        )
        cursor = connection.execute(
            _SUBMIT,
            {
                "owner": owner_id,
                "uris": [submission.uri for submission in submissions],
                "filenames": [filename_of(submission.uri) for submission in submissions],
                "languages": [submission.language for submission in submissions],
            },
        )
        ids = [row["id"] for row in cursor]
        connection.execute(f"NOTIFY {CHANNEL}")
        return ids


def notifications(url: str, wait_s: float) -> Iterator[bool]:
    """Listen for what became claimable: yields True for a notification, False after ``wait_s`` seconds without one.

    Holds a session of its own. Raises DatabaseUnavailable when it is lost.
    """
    with connect(url, name="heimdex-listener", autocommit=True) as connection:
        try:
            connection.execute(f"LISTEN {CHANNEL}")
            while True:
                yield any(True for _ in connection.notifies(timeout=wait_s, stop_after=1))
        except OperationalError as error:
            raise DatabaseUnavailable(f"Postgres at {place(url)} is away: {error}") from error


class VideoQueue:
    """The queue as one scheduler sees it. ``scheduler`` names it in its leases, the same after a restart."""

    def __init__(self, pool: Pool, scheduler: str, lease_s: float, max_attempts: int) -> None:
        self._pool = pool
        self._scheduler = scheduler
        self._lease_s = lease_s
        self._max_attempts = max_attempts

    def claim(self, limit: int) -> list[ClaimedVideo]:
        """Lease up to ``limit`` waiting videos, those that waited longest first."""
        with self._pool.connection() as connection, connection.cursor(row_factory=class_row(ClaimedVideo)) as cursor:
            cursor.execute(_CLAIM, {"limit": limit, "scheduler": self._scheduler, "lease_s": self._lease_s})
            return cursor.fetchall()

    def heartbeat(self, tokens: Sequence[int]) -> set[int]:
        """Prolong the leases of ``tokens`` in one statement; returns the tokens that are still held."""
        with self._pool.connection() as connection:
            cursor = connection.execute(
                _HEARTBEAT, {"tokens": list(tokens), "scheduler": self._scheduler, "lease_s": self._lease_s}
            )
            return {row["lease_token"] for row in cursor}

    def record_media(self, video: ClaimedVideo, info: MediaInfo) -> None:
        """Write what the probe found. Raises LeaseLost."""
        self._fenced(
            _RECORD_MEDIA,
            video,
            duration_s=info.duration_s,
            size_bytes=info.size_bytes,
            width=info.width,
            height=info.height,
            fps=info.fps,
        )

    def finish(self, video: ClaimedVideo, run_s: float, node: str, worker: str) -> None:
        """Make the video READY and close its finalizing run, which took ``run_s`` seconds. Raises LeaseLost."""
        self._fenced(_FINISH, video, run_s=run_s, node=node, worker=worker)

    def fail(self, video: ClaimedVideo, stage: str, failure: StageFailure) -> None:
        """Make the video FAILED in ``stage`` for good. Raises LeaseLost."""
        self._fenced(_FAIL, video, stage=stage, error_type=failure.error_type, error_message=failure.message)

    def retry(self, video: ClaimedVideo, failure: StageFailure, delay_s: float) -> None:
        """Let the video wait for another attempt. Raises LeaseLost."""
        self._fenced(_RETRY, video, error_type=failure.error_type, error_message=failure.message, delay_s=delay_s)

    def reap(self, limit: int = 100) -> list[UUID]:
        """Take back up to ``limit`` videos whose lease expired; each counts as a failure in the stage it was in."""
        return self._take_back(_REAP, SCHEDULER_DIED, counted=1, limit=limit)

    def reap_own(self) -> list[UUID]:
        """Take back all videos of this scheduler: it died and was started again."""
        return self._take_back(_TAKE_BACK_OWN, SCHEDULER_DIED, counted=1)

    def hand_back(self) -> list[UUID]:
        """Let all videos of this scheduler wait again: it stops. This counts as no failure."""
        return self._take_back(_TAKE_BACK_OWN, "the cluster was stopped while this stage ran", counted=0)

    def _take_back(self, statement: str, reason: str, *, counted: int, limit: int | None = None) -> list[UUID]:
        parameters = {
            "scheduler": self._scheduler,
            "limit": limit,
            "reason": reason,
            "counted": counted,
            "max_attempts": self._max_attempts,
        }
        with self._pool.connection() as connection:
            return [row["id"] for row in connection.execute(statement, parameters)]

    def _fenced(self, statement: str, video: ClaimedVideo, **parameters: object) -> None:
        with self._pool.connection() as connection:
            cursor = connection.execute(statement, {"id": video.id, "token": video.lease_token, **parameters})
            if cursor.rowcount == 0:
                raise LeaseLost(f"the lease of {video.filename} is lost")
