"""The guards of writes about a claimed video: by the holder of its lease, once, and whole."""

from tests.chaos.guards_trial import Guard

QUEUE = "cluster/store/queue/video_queue.py"
RECOVERY = "cluster/store/queue/lease_recovery.py"
LEDGER = "cluster/store/queue/stage_runs.py"
RESULTS = "cluster/store/queue/stage_results.py"

_QUEUE_TESTS = "tests/integration/test_video_queue.py::"
_RACES = "tests/integration/test_lease_races.py::"
_OPEN_RUNS = "tests/integration/test_open_runs.py::test_run_opened_while_its_lease_ends_is_closed_with_it"
_LEDGER_TESTS = "tests/integration/test_stage_ledger.py::"
_STALE = f"{_QUEUE_TESTS}test_a_stale_token_writes_nothing"
_ONCE = f"{_QUEUE_TESTS}test_a_video_is_settled_once"
_ID_AND_TOKEN = "WHERE video_id = %(id)s AND lease_token = %(token)s"

_FENCE = [
    Guard(
        "fence: when processing began",
        LEDGER,
        "l.lease_token = b.lease_token\nWHERE v.processing_started_at",
        "true\nWHERE v.processing_started_at",
        (f"{_STALE}[True-begin]",),
    ),
    Guard(
        "fence: what the probe found",
        LEDGER,
        "l.lease_token = b.lease_token\n), measured",
        "true\n), measured",
        (f"{_STALE}[True-record_media]",),
    ),
    Guard(
        "fence: finish",
        QUEUE,
        "WHERE (l.video_id, l.lease_token) IN (SELECT video_id, lease_token FROM done)",
        "WHERE l.video_id IN (SELECT video_id FROM done)",
        (f"{_STALE}[True-finish]",),
    ),
    Guard(
        "fence: fail and retry",
        QUEUE,
        f'{_ID_AND_TOKEN}\n)"""',
        'WHERE video_id = %(id)s\n)"""',
        (f"{_STALE}[True-fail]", f"{_STALE}[True-retry]"),
    ),
    Guard(
        "fence: what is kept and the scenes",
        RESULTS,
        "WHERE video_id = %(video_id)s AND lease_token = %(token)s FOR KEY SHARE",
        "WHERE video_id = %(video_id)s FOR KEY SHARE",
        (f"{_STALE}[True-scenes]", f"{_RACES}test_a_stale_token_keeps_no_transcript"),
    ),
    Guard(
        "fence: opening a run",
        LEDGER,
        "l.lease_token = b.lease_token\n), written",
        "true\n), written",
        (f"{_RACES}test_a_stale_token_opens_no_run",),
    ),
    Guard(
        "fence: closing a run",
        LEDGER,
        "l.lease_token = b.lease_token\nWHERE r.video_id",
        "true\nWHERE r.video_id",
        (f"{_RACES}test_a_stale_token_closes_no_run",),
    ),
    Guard(
        "who is fenced off is told, by the queue",
        QUEUE,
        "if cursor.rowcount == 0:",
        "if cursor.rowcount < 0:",
        (_STALE,),
    ),
    Guard(
        "who is fenced off is told, by what is kept",
        RESULTS,
        "if cursor.rowcount == 0:",
        "if cursor.rowcount < 0:",
        (f"{_STALE}[True-scenes]",),
    ),
    Guard(
        "who is fenced off is told, by the ledger",
        "actors/attempt/batch_writer.py",
        "if waiting.entry.video.lease_token in held:",
        "if held is not None:",
        (f"{_LEDGER_TESTS}test_only_the_video_whose_lease_is_lost_is_told_so",),
    ),
]

_SETTLED = [
    Guard(
        "what is settled is not finished again",
        QUEUE,
        "AS started_at FROM held JOIN videos AS v ON v.id = held.video_id",
        "AS started_at FROM done AS held JOIN videos AS v ON v.id = held.video_id",
        (_ONCE,),
    ),
    Guard(
        "what is settled does not fail again: the first failure stays",
        QUEUE,
        "FROM held, clock WHERE v.id = held.video_id\n    RETURNING v.id, v.status\n)",
        "FROM clock WHERE v.id = %(id)s\n    RETURNING v.id, v.status\n)",
        (_ONCE,),
    ),
    Guard(
        "what is settled does not wait again",
        QUEUE,
        "FROM held WHERE v.id = held.video_id\n    RETURNING v.id, v.status\n)",
        "WHERE v.id = %(id)s\n    RETURNING v.id, v.status\n)",
        (_ONCE,),
    ),
    Guard(
        "what is settled is not taken back",
        RECOVERY,
        "FROM verdict WHERE v.id = verdict.id AND v.status = 'PROCESSING'",
        "FROM verdict WHERE v.id = verdict.id",
        (f"{_RACES}test_ended_video_is_not_restored_by_a_leftover_lease",),
    ),
    Guard(
        "no run stays open when its attempt ends",
        QUEUE,
        'FROM lease WHERE r.video_id = lease.video_id AND r.outcome = \'running\'\n)"""',
        'FROM lease WHERE r.video_id = lease.video_id AND false\n)"""',
        (f"{_QUEUE_TESTS}test_no_run_stays_open_when_its_attempt_ends",),
    ),
    Guard(
        "the lease is locked before its runs are closed",
        QUEUE,
        f"{_ID_AND_TOKEN} FOR UPDATE;",
        f"{_ID_AND_TOKEN};",
        (f"{_OPEN_RUNS}[fail]", f"{_OPEN_RUNS}[retry]"),
    ),
    Guard(
        "a run is closed once",
        LEDGER,
        "r.stage = b.stage AND r.outcome = 'running'",
        "r.stage = b.stage",
        (f"{_LEDGER_TESTS}test_writing_the_same_again_changes_nothing",),
    ),
    Guard(
        "a run is opened once",
        LEDGER,
        "    ON CONFLICT (video_id, attempt, stage) DO NOTHING\n",
        "    ON CONFLICT (video_id, attempt, stage) DO UPDATE SET outcome = 'running', finished_at = NULL\n",
        (f"{_LEDGER_TESTS}test_writing_the_same_again_changes_nothing",),
    ),
    Guard(
        "who writes under a lease keeps it: the ledger",
        LEDGER,
        "ORDER BY lease_token FOR KEY SHARE",
        "ORDER BY lease_token",
        (
            f"{_RACES}test_writer_under_an_expiring_lease_is_passed_over[run]",
            f"{_RACES}test_writer_under_an_expiring_lease_is_passed_over[media]",
        ),
    ),
    Guard(
        "who writes under a lease keeps it: what is kept and the scenes",
        RESULTS,
        "AND lease_token = %(token)s FOR KEY SHARE",
        "AND lease_token = %(token)s",
        (f"{_RACES}test_writer_under_an_expiring_lease_is_passed_over[transcript]",),
    ),
]

WRITES = [*_FENCE, *_SETTLED]
