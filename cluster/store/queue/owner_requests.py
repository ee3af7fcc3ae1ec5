"""What owners asked for that costs work, and how much more they may ask for: each request of a video has a row.

Judged and written in the transaction of the request, while it holds the owner's row of ``video_owners``: what comes at
the same time is judged one after the other. How long and how large a video is becomes known when it is read: until
then it counts 0 hours and bytes, and it is judged again then (``QuotaCharges``).
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from psycopg import Connection
from psycopg.rows import DictRow

from cluster.contracts.errors import QuotaExceeded, TooManySubmissions
from cluster.contracts.quotas import MOST_PERIOD_H, UNTIMED_S, OwnerQuotas, SubmissionLimits
from cluster.contracts.videos import ClaimedVideo
from cluster.store.postgres.connections import Pool
from cluster.store.postgres.plausible_times import SECONDS

if TYPE_CHECKING:  # media brings numpy along, which commands that only read the database need not wait for
    from cluster.contracts.media import MediaInfo

MINUTE_S = 60
REMOVED_AT_ONCE = 10_000

_USED = """
-- What the owner asked for within the period and within a minute, and when the first of it leaves the period.
SELECT count(*) FILTER (WHERE requested_at > clock_timestamp() - interval '1 minute') AS lately,
       count(*) AS videos, coalesce(sum(duration_s), 0) / 3600 AS hours, coalesce(sum(size_bytes), 0)::bigint AS bytes,
       coalesce(extract(epoch FROM min(requested_at) - clock_timestamp()), 0)::float8 + %(period_s)s AS wait_s
FROM owner_requests
WHERE owner_id = %(owner)s AND NOT exempt AND id IS DISTINCT FROM %(without)s
  AND requested_at > clock_timestamp() - make_interval(secs => %(period_s)s)
"""

_IN_FLIGHT = """
-- No more is counted than the limit has to know.
SELECT (SELECT count(*) FROM (SELECT FROM video_processing WHERE owner_id = %(owner)s AND available_at IS NOT NULL
                              LIMIT %(most)s) AS waiting)
     + (SELECT count(*) FROM video_leases AS l JOIN video_processing AS p USING (video_id)
        WHERE p.owner_id = %(owner)s) AS videos
"""

_NOTE = f"""
-- What was measured of a video before counts at once; the owner is that of the video.
INSERT INTO owner_requests (owner_id, video_id, kind, exempt, duration_s, size_bytes)
SELECT v.owner_id, v.id, %(kind)s, %(exempt)s,
       {SECONDS}, p.file_size_bytes
FROM videos AS v LEFT JOIN video_processing AS p ON p.video_id = v.id
WHERE v.id = ANY (%(ids)s) AND v.owner_id IS NOT NULL
"""

_KNOWN = f"""
SELECT coalesce(sum({SECONDS}), 0) / 3600 AS hours,
       coalesce(sum(p.file_size_bytes), 0)::bigint AS bytes
FROM videos AS v LEFT JOIN video_processing AS p ON p.video_id = v.id WHERE v.id = ANY (%(ids)s)
"""

_REMOVE = """
DELETE FROM owner_requests WHERE requested_at < clock_timestamp() - make_interval(hours => %(hours)s)
AND id IN (SELECT id FROM owner_requests ORDER BY id LIMIT %(most)s)
"""


@dataclass(frozen=True)
class _Asked:
    """What is asked for now: videos, and what is known of them."""

    videos: int
    hours: float = 0.0
    size_bytes: int = 0


def lock_owner(connection: Connection[DictRow], owner_id: UUID) -> None:
    """One request of an owner at a time, until the transaction ends: what is counted next is all that there is."""
    connection.execute("INSERT INTO video_owners (owner_id) VALUES (%s) ON CONFLICT (owner_id) DO NOTHING", (owner_id,))
    connection.execute("SELECT FROM video_owners WHERE owner_id = %s FOR NO KEY UPDATE", (owner_id,))


def check_new(connection: Connection[DictRow], owner_id: UUID, limits: SubmissionLimits, videos: int) -> None:
    """Refuse new videos that the owner, whose row is locked, may not ask for. Raises TooManySubmissions."""
    _check(connection, owner_id, limits, _Asked(videos))


def check_again(
    connection: Connection[DictRow], owner_id: UUID, limits: SubmissionLimits, video_ids: list[UUID]
) -> None:
    """The same of videos that are there: what was measured of them counts. Raises TooManySubmissions."""
    known = connection.execute(_KNOWN, {"ids": video_ids}).fetchone()
    assert known is not None
    _check(connection, owner_id, limits, _Asked(len(video_ids), known["hours"], known["bytes"]))


def note_again(connection: Connection[DictRow], video_ids: list[UUID], kind: str, *, exempt: bool) -> None:
    """These videos are processed once more; ``exempt``: not at their owner's request."""
    connection.execute(_NOTE, {"ids": video_ids, "kind": kind, "exempt": exempt})


def _check(connection: Connection[DictRow], owner_id: UUID, limits: SubmissionLimits, asked: _Asked) -> None:
    if not asked.videos:
        return
    quotas = limits.quotas
    if limits.per_minute is not None or quotas.counts_back:
        used = _used(connection, owner_id, quotas)
        if limits.per_minute is not None and used["lately"] + asked.videos > limits.per_minute:
            sentence = f"no more than {limits.per_minute} videos may be submitted or tried again within a minute"
            raise TooManySubmissions(sentence)
        _check_quotas(quotas, used, asked)
    if quotas.in_flight is not None:
        row = connection.execute(_IN_FLIGHT, {"owner": owner_id, "most": quotas.in_flight}).fetchone()
        assert row is not None
        if row["videos"] + asked.videos > quotas.in_flight:
            raise QuotaExceeded(
                f"the owner's quota of {quotas.in_flight} videos that wait or are processed is used up: "
                "wait until some have ended, or cancel some"
            )


def _used(connection: Connection[DictRow], owner_id: UUID, quotas: OwnerQuotas, without: int | None = None) -> DictRow:
    period_s = quotas.period_h * 3600.0 if quotas.counts_back else MINUTE_S
    values = {"owner": owner_id, "period_s": max(period_s, MINUTE_S), "without": without}
    used = connection.execute(_USED, values).fetchone()
    assert used is not None
    return used


def _check_quotas(quotas: OwnerQuotas, used: DictRow, asked: _Asked) -> None:
    for most, taken, wanted, unit in (
        (quotas.videos, used["videos"], asked.videos, "videos"),
        (quotas.hours, used["hours"], asked.hours, "hours of video"),
        (quotas.size_bytes, used["bytes"], asked.size_bytes, "bytes of video"),
    ):
        if most is not None and (taken >= most or taken + wanted > most):
            left = max(0, most - taken)
            raise QuotaExceeded(
                f"the owner's quota of {most:g} {unit} within {quotas.period_h:g} hours leaves {left:g}: "
                "try again later, or ask for less",
                max(1, math.ceil(used["wait_s"])),
            )


class QuotaCharges:
    """Judges videos that were read, once it is known how long and how large they are."""

    def __init__(self, pool: Pool, quotas: OwnerQuotas) -> None:
        self._pool = pool
        self._quotas = quotas

    def charge(self, video: ClaimedVideo, media: "MediaInfo") -> None:
        """Count the video as long and large as it is. Again for another attempt, it counts once.

        Raises:
            QuotaExceeded: it takes its owner beyond a quota; it counts as 0 hours and bytes.
        """
        refusal: QuotaExceeded | None = None
        with self._pool.connection() as connection:
            lock_owner(connection, video.owner_id)
            request = connection.execute(
                "SELECT id, exempt FROM owner_requests WHERE video_id = %s ORDER BY id DESC LIMIT 1", (video.id,)
            ).fetchone()
            if request is None or request["exempt"]:
                return
            duration_s = UNTIMED_S if media.duration_s is None else media.duration_s
            try:
                used = _used(connection, video.owner_id, self._quotas, request["id"])
                counted = OwnerQuotas(
                    hours=self._quotas.hours, size_bytes=self._quotas.size_bytes, period_h=self._quotas.period_h
                )
                _check_quotas(counted, used, _Asked(1, duration_s / 3600, media.size_bytes))
            except QuotaExceeded as error:
                refusal, duration_s = error, 0.0
            connection.execute(
                "UPDATE owner_requests SET duration_s = %s, size_bytes = %s WHERE id = %s",
                (duration_s, 0 if refusal else media.size_bytes, request["id"]),
            )
        if refusal is not None:
            raise refusal


def remove_old_requests(pool: Pool) -> int:
    """Remove requests that no quota counts any more; returns how many."""
    values = {"hours": math.ceil(MOST_PERIOD_H), "most": REMOVED_AT_ONCE}
    removed = 0
    while True:
        with pool.connection() as connection:
            count = connection.execute(_REMOVE, values).rowcount
        removed += count
        if count < REMOVED_AT_ONCE:
            return removed
