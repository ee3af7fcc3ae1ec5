"""Invariants of a database, whatever was killed: checked over all of its rows, once nothing is on its way any more.

``watch`` installs ``audit.sql``, which notes while it happens what cannot be seen afterwards; ``violations`` names what
is wrong then, with examples. What should have become of a single video is for those to say who submitted it.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from cluster.contracts.stages import REQUIRES, RetryRule, Stage
from cluster.store.postgres.connections import Pool, connect
from cluster.store.videos.shown_status import SHOWN_STATUS

AUDIT_SQL = Path(__file__).with_name("audit.sql")
TOLERANCE_MS = 50.0
EXAMPLES = 3

_ENDED = "('READY', 'FAILED', 'CANCELLED')"

VIDEOS = f"""(
    SELECT v.id, v.owner_id, v.storage_path, {SHOWN_STATUS} AS status, v.error_message, v.processing_stage, v.queued_at,
           v.processing_started_at, v.processing_finished_at, v.processing_duration_ms, p.due_at, p.attempt, p.failures,
           p.crashes, p.interruptions, p.error_type, p.file_size_bytes
    FROM public.videos AS v JOIN public.video_processing AS p ON p.video_id = v.id
)"""
"""Videos with what the queue knows of them, and their status as people see it."""

CHECKS: dict[str, str] = {
    "a video has not ended": f"""
        SELECT id, status FROM {{videos}} AS v WHERE status NOT IN {_ENDED} AND due_at IS NOT NULL
    """,
    "a lease without a video on its way": """
        SELECT l.video_id, l.lease_token FROM video_leases AS l JOIN {videos} AS v ON v.id = l.video_id
        WHERE v.status <> 'PROCESSING'
    """,
    "a video on its way without a lease": """
        SELECT v.id FROM {videos} AS v LEFT JOIN video_leases AS l ON l.video_id = v.id
        WHERE v.status = 'PROCESSING' AND l.video_id IS NULL
    """,
    "a stage run is open without a lease": """
        SELECT r.video_id, r.attempt, r.stage FROM video_stage_runs AS r
        WHERE r.outcome = 'running' AND NOT EXISTS (SELECT FROM video_leases AS l WHERE l.video_id = r.video_id)
    """,
    "a stage run of another attempt is open": """
        SELECT r.video_id, r.attempt, r.stage FROM video_stage_runs AS r JOIN {videos} AS v ON v.id = r.video_id
        WHERE r.outcome = 'running' AND r.attempt <> v.attempt
    """,
    "an owner has more videos on the way than allowed": """
        SELECT owner_id, max(on_the_way) FROM (
            SELECT owner_id, sum(change) OVER (PARTITION BY owner_id ORDER BY at, change) AS on_the_way FROM (
                SELECT v.owner_id, x.at, x.change FROM chaos.leases AS l JOIN {videos} AS v ON v.id = l.video_id
                CROSS JOIN LATERAL (VALUES (l.granted_at, 1), (l.ended_at, -1)) AS x (at, change)
                WHERE x.at IS NOT NULL) AS changes) AS owners
        GROUP BY 1 HAVING max(on_the_way) > (SELECT owner_cap FROM chaos.settings)
    """,
    "a lease that had not expired was taken back by another scheduler": """
        SELECT l.video_id, l.lease_token, l.session, l.ended_by, l.expired_at - l.ended_at
        FROM chaos.leases AS l JOIN chaos.changes AS c ON c.video_id = l.video_id AND c.attempt = l.attempt
        WHERE c.before = 'PROCESSING' AND c.after IN ('PENDING', 'FAILED') AND l.expired_at > l.ended_at
          AND split_part(l.ended_by, '/', 1) <> l.scheduler AND (SELECT attributed FROM chaos.settings)
    """,
    "a video became READY more than once": """
        SELECT video_id, count(*) FROM chaos.changes WHERE after = 'READY' GROUP BY 1 HAVING count(*) > 1
    """,
    "the status is not the last one that was noted": """
        SELECT v.id, v.status, c.after
        FROM {videos} AS v
        LEFT JOIN (SELECT DISTINCT ON (video_id) video_id, after FROM chaos.changes ORDER BY video_id, number DESC) AS c
             ON c.video_id = v.id
        WHERE v.status::text <> coalesce(c.after, 'PENDING')
    """,
    "attempts are not 1 to n": """
        SELECT v.id, v.attempt, count(l.lease_token), max(l.attempt)
        FROM {videos} AS v LEFT JOIN chaos.leases AS l ON l.video_id = v.id
        GROUP BY 1, 2 HAVING v.attempt <> count(l.lease_token) OR v.attempt <> coalesce(max(l.attempt), 0)
    """,
    "a stage run of an attempt that there was not": """
        SELECT r.video_id, r.attempt, r.stage FROM video_stage_runs AS r
        LEFT JOIN chaos.leases AS l ON l.video_id = r.video_id AND l.attempt = r.attempt WHERE l.video_id IS NULL
    """,
    "more setbacks than allowed": """
        SELECT id, failures, crashes, interruptions FROM {videos} AS v
        WHERE failures > {max_errors} OR crashes > {max_crashes} OR interruptions > {max_interruptions}
    """,
    "a status changed unseen": """
        SELECT video_id, before, after FROM (
            SELECT video_id, before, after, lag(after) OVER (PARTITION BY video_id ORDER BY number) AS earlier
            FROM chaos.changes) AS c
        WHERE earlier IS NOT NULL AND earlier <> before
    """,
    "times run backwards in a stage run": """
        SELECT video_id, attempt, stage FROM video_stage_runs
        WHERE finished_at < ready_at OR started_at < ready_at OR finished_at < started_at
           OR wait_ms < 0 OR run_ms < 0
    """,
    "wait + run is not the time from ready to finished": """
        SELECT video_id, attempt, stage, outcome, wait_ms, run_ms FROM video_stage_runs
        WHERE outcome <> 'running' AND started_at IS NOT NULL
          AND abs(extract(epoch FROM finished_at - ready_at) * 1000 - wait_ms - run_ms) > {tolerance_ms}
    """,
    "a stage began before what it needs was there": """
        SELECT r.video_id, r.attempt, r.stage, needed.stage AS needs
        FROM video_stage_runs AS r
        JOIN (VALUES {requires}) AS needed (by_stage, stage) ON needed.by_stage = r.stage
        LEFT JOIN video_stage_runs AS n
             ON n.video_id = r.video_id AND n.attempt = r.attempt AND n.stage = needed.stage
        WHERE n.video_id IS NULL OR n.outcome NOT IN ('completed', 'skipped') OR n.finished_at > r.ready_at
    """,
    "a READY video's last attempt lacks a stage": """
        SELECT v.id, v.attempt, count(r.stage) FROM {videos} AS v
        LEFT JOIN video_stage_runs AS r
             ON r.video_id = v.id AND r.attempt = v.attempt AND r.outcome IN ('completed', 'skipped')
        WHERE v.status = 'READY' AND v.due_at IS NOT NULL GROUP BY 1, 2 HAVING count(r.stage) <> {stages}
    """,
    "the stages of a READY video do not add up to its time": """
        SELECT v.id, v.attempt FROM {videos} AS v
        JOIN video_stage_runs AS first ON first.video_id = v.id AND first.attempt = v.attempt
             AND first.stage = 'downloading'
        JOIN video_stage_runs AS last ON last.video_id = v.id AND last.attempt = v.attempt AND last.stage = 'finalizing'
        WHERE v.status = 'READY'
          AND greatest(abs(extract(epoch FROM first.ready_at - v.processing_started_at)),
                       abs(extract(epoch FROM last.finished_at - v.processing_finished_at))) * 1000 > {tolerance_ms}
    """,
    "a pause between two stages of a READY video": """
        SELECT r.video_id, r.attempt, r.stage FROM (
            SELECT r.video_id, r.attempt, r.stage, r.ready_at, max(n.finished_at) AS needed_at
            FROM {videos} AS v
            JOIN video_stage_runs AS r ON r.video_id = v.id AND r.attempt = v.attempt
            JOIN (VALUES {requires}) AS needed (by_stage, stage) ON needed.by_stage = r.stage
            JOIN video_stage_runs AS n
                 ON n.video_id = r.video_id AND n.attempt = r.attempt AND n.stage = needed.stage
            WHERE v.status = 'READY' GROUP BY 1, 2, 3, 4) AS r
        WHERE extract(epoch FROM r.ready_at - r.needed_at) * 1000 > {tolerance_ms}
    """,
    "an ended video's times are not whole": """
        SELECT id, status FROM {videos} AS v
        WHERE status IN ('READY', 'FAILED') AND due_at IS NOT NULL AND (
              queued_at IS NULL OR processing_started_at IS NULL OR processing_finished_at IS NULL
              OR processing_started_at < queued_at OR processing_finished_at < processing_started_at
              OR processing_duration_ms IS DISTINCT FROM
                 round(extract(epoch FROM processing_finished_at - processing_started_at) * 1000))
    """,
    "a FAILED video names no stage that failed": """
        SELECT v.id, v.processing_stage, v.error_type FROM {videos} AS v
        WHERE v.status = 'FAILED' AND (v.error_type IS NULL OR v.error_message IS NULL OR v.error_type <> 'NodeLost'
              AND NOT EXISTS (
                  SELECT FROM video_stage_runs AS r
                  WHERE r.video_id = v.id AND r.attempt = v.attempt AND r.stage = v.processing_stage
                    AND r.outcome IN ('failed', 'lost') AND r.error_type = v.error_type))
    """,
    "scenes are doubled or missing": """
        SELECT video_id, count(*) FROM video_scenes GROUP BY 1
        HAVING count(*) <> count(DISTINCT index) OR min(index) <> 0 OR max(index) <> count(*) - 1
    """,
    "a scene without its embedding": """
        SELECT s.video_id, s.index, count(e.scene_id)
        FROM video_scenes AS s LEFT JOIN scene_embeddings AS e ON e.scene_id = s.id
        GROUP BY 1, 2 HAVING count(e.scene_id) <> 1
    """,
    "scenes without their transcript": """
        SELECT DISTINCT s.video_id FROM video_scenes AS s LEFT JOIN video_transcripts AS t ON t.video_id = s.video_id
        WHERE t.video_id IS NULL
    """,
    "results for later attempts stay where none follows": """
        SELECT s.video_id, s.stage, v.status FROM video_stage_results AS s JOIN {videos} AS v ON v.id = s.video_id
        WHERE v.status IN ('READY', 'CANCELLED')
    """,
}
"""Violation -> the query of the rows in which it shows; every check is empty where all is well."""


def watch(url: str, *, owner_cap: int | None = None, attributed: bool = False) -> None:
    """Install the audit. ``attributed``: sessions and writes say which scheduler and lease they belong to."""
    with connect(url) as connection:
        connection.execute(AUDIT_SQL.read_text())
        connection.execute("INSERT INTO chaos.settings VALUES (%s, %s)", (owner_cap, attributed))


def violations(pool: Pool, rule: RetryRule | None = None) -> list[str]:
    """All that is wrong in the database, one line for each kind."""
    return [*_noted(pool), *failing(pool, CHECKS, rule)]


def failing(pool: Pool, checks: Iterable[str], rule: RetryRule | None = None) -> list[str]:
    """Those of the checks that find something, one line for each."""
    values = _values(rule or RetryRule())
    found: list[str] = []
    for what in checks:
        with pool.connection() as connection:
            connection.execute("SET LOCAL statement_timeout = 0")
            cursor = connection.execute(CHECKS[what].format(**values))  # type: ignore[call-overload]
            examples = [tuple(row.values()) for row in cursor.fetchmany(EXAMPLES)]
            if examples:
                found.append(f"{what}: {cursor.rowcount}, e.g. {_shown(examples)}")
    return found


def _noted(pool: Pool) -> Iterator[str]:
    """Violations that the audit noted while they happened."""
    with pool.connection() as connection:
        cursor = connection.execute(
            """
            SELECT what, count(*) AS n, (array_agg(concat_ws(' ', video_id, detail, session, at)))[1:%s] AS examples
            FROM chaos.faults GROUP BY what ORDER BY what
            """,
            (EXAMPLES,),
        )
        for row in cursor.fetchall():
            yield f"{row['what']}: {row['n']}, e.g. {'; '.join(row['examples'])}"


def _shown(examples: list[tuple[object, ...]]) -> str:
    return "; ".join(" ".join(str(value) for value in example) for example in examples)


def _values(rule: RetryRule) -> dict[str, object]:
    pairs = [f"('{stage}', '{needed}')" for stage, needs in REQUIRES.items() for needed in needs]
    return {
        "videos": VIDEOS,
        "max_errors": rule.max_errors,
        "max_crashes": rule.max_crashes,
        "max_interruptions": rule.max_interruptions,
        "tolerance_ms": TOLERANCE_MS,
        "requires": ", ".join(pairs),
        "stages": len(Stage),
    }
