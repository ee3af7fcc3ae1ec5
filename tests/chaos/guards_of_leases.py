"""The guards of the queue's leases: who may claim, prolong and take back. Who may write is ``guards_of_writes``'."""

from tests.chaos.guards_trial import Guard

QUEUE = "cluster/store/queue/video_queue.py"
RECOVERY = "cluster/store/queue/lease_recovery.py"
LEDGER = "cluster/store/queue/stage_runs.py"
LEASES_SQL = "sql/migrations/022_add_durable_queue.sql"

_SCHEDULER = "tests/integration/test_scheduler_leases.py::"
_QUEUE_TESTS = "tests/integration/test_video_queue.py::"
_RACES = "tests/integration/test_lease_races.py::"
_ORDERS = "tests/integration/test_lock_order.py::"
_TIMES = "tests/integration/test_impossible_times.py::"
_REFUSED = "tests/integration/test_refused_rows.py::"
_OPEN_RUNS = "tests/integration/test_open_runs.py::test_run_opened_while_its_lease_ends_is_closed_with_it"

_CLAIM = [
    Guard(
        "a claim ends before its leases expire",
        "cluster/store/queue/video_queue.py",
        "                if time.monotonic() > end_s:\n                    break\n                owners",
        "                owners",
        (f"{_REFUSED}test_claim_beside_waiting_triggers_ends_before_its_leases",),
    ),
    Guard(
        "a write that waits is put off",
        "actors/attempt/batch_writer.py",
        "            except StatementTimeout:\n                raise\n",
        "",
        (f"{_REFUSED}test_a_write_that_waits_holds_up_no_other[end]",),
    ),
    Guard(
        "a write that was put off is tried again",
        "actors/attempt/batch_writer.py",
        "            self._waiting.append(waiting)\n            self._work.set()\n",
        "            self._work.set()\n",
        (f"{_REFUSED}test_a_write_that_waits_holds_up_no_other[begin]",),
    ),
    Guard(
        "a claim skips what is locked",
        QUEUE,
        "FOR UPDATE OF v, p SKIP LOCKED",
        "FOR UPDATE OF v, p",
        (f"{_RACES}test_a_claim_waits_for_nobody",),
    ),
    Guard(
        "a claim looks again once it holds the lock",
        QUEUE,
        "FROM waiting WHERE v.id = waiting.id AND waiting.pending\n",
        "FROM waiting WHERE v.id = waiting.id\n",
        (f"{_RACES}test_what_another_system_has_taken_is_not_claimed",),
    ),
    Guard(
        "claims come one after the other",
        QUEUE,
        "SELECT pg_advisory_xact_lock(%(lock)s); ",
        "SELECT 1; ",
        (f"{_RACES}test_a_claim_waits_for_the_claim_before_it",),
    ),
    Guard(
        "what backs off takes nobody's place",
        QUEUE,
        "AND p.available_at <= clock_timestamp(){only}\n        ORDER BY p.due_at",
        "AND p.available_at IS NOT NULL{only}\n        ORDER BY p.due_at",
        (f"{_RACES}test_a_video_that_backs_off_takes_nobodys_place",),
    ),
    Guard(
        "a video that cannot be claimed holds up no other",
        QUEUE,
        "        except REFUSALS as error:\n            logger.debug(",
        "        except REFUSALS as error:\n            raise\n            logger.debug(",
        (f"{_REFUSED}test_a_refused_video_is_set_aside_and_claimed_once_allowed[exception]",),
    ),
    Guard(
        "a video that a trigger skips goes on waiting",
        QUEUE,
        "AND (NOT waiting.pending OR v.status <> 'PENDING')",
        "",
        (
            f"{_REFUSED}test_a_refused_video_is_set_aside_and_claimed_once_allowed[skip]",
            f"{_REFUSED}test_a_refused_video_is_set_aside_and_claimed_once_allowed[undo]",
        ),
    ),
    Guard(
        "refused videos take no other's place",
        QUEUE,
        "SET available_at = clock_timestamp() + make_interval(secs => r.delay_s), error",
        "SET error",
        (f"{_REFUSED}test_a_refused_video_is_set_aside_and_claimed_once_allowed[exception]",),
    ),
    Guard(
        "others are claimed in the places of refused videos",
        QUEUE,
        "_CLAIM_ROUNDS = 20",
        "_CLAIM_ROUNDS = 1",
        (f"{_REFUSED}test_claim_of_one_skips_an_owner_with_refused_videos[0-skip]",),
    ),
    Guard(
        "others are those of other owners",
        QUEUE,
        " | dict.fromkeys(refused, 0)",
        "",
        (f"{_REFUSED}test_claim_of_one_skips_an_owner_with_refused_videos[0-skip]",),
    ),
    Guard(
        "others keep to what an owner may have",
        QUEUE,
        "cap - owners[owner] for",
        "cap for",
        (f"{_REFUSED}test_a_claim_with_refused_videos_keeps_to_its_limits[skip]",),
    ),
    Guard(
        "one lease per video, by the database",
        LEASES_SQL,
        "video_id    uuid        PRIMARY KEY REFERENCES videos (id) ON DELETE CASCADE,\n    lease_token",
        "video_id    uuid        NOT NULL REFERENCES videos (id) ON DELETE CASCADE,\n    lease_token",
        (f"{_QUEUE_TESTS}test_the_database_refuses_two_leases_of_one_video",),
    ),
    Guard(
        "one video per lease token, by the database",
        LEASES_SQL,
        "lease_token bigint      NOT NULL UNIQUE",
        "lease_token bigint      NOT NULL",
        (f"{_RACES}test_the_database_refuses_one_token_for_two_leases",),
    ),
]

_HEARTBEAT = [
    Guard(
        "a heartbeat prolongs one's own leases alone",
        QUEUE,
        "WHERE scheduler = %(scheduler)s AND lease_token = ANY (%(tokens)s)",
        "WHERE lease_token = ANY (%(tokens)s)",
        (f"{_QUEUE_TESTS}test_a_heartbeat_prolongs_what_is_held_and_says_what_is_not",),
    ),
    Guard(
        "a heartbeat prolongs what is worked on alone",
        QUEUE,
        "WHERE scheduler = %(scheduler)s AND lease_token = ANY (%(tokens)s)",
        "WHERE scheduler = %(scheduler)s",
        (f"{_QUEUE_TESTS}test_a_heartbeat_prolongs_what_is_held_and_says_what_is_not",),
    ),
    Guard(
        "order of locks: heartbeat",
        QUEUE,
        "    ORDER BY lease_token FOR NO KEY UPDATE",
        "    FOR NO KEY UPDATE",
        (f"{_ORDERS}test_leases_are_locked_in_the_order_of_their_tokens[heartbeat]",),
    ),
    Guard(
        "order of locks: ledger",
        LEDGER,
        "ORDER BY lease_token FOR KEY SHARE",
        "FOR KEY SHARE",
        (f"{_ORDERS}test_leases_are_locked_in_the_order_of_their_tokens[ledger]",),
    ),
    Guard(
        "order of locks: finishing",
        QUEUE,
        "    ORDER BY l.lease_token FOR UPDATE",
        "    FOR UPDATE",
        (f"{_ORDERS}test_leases_are_locked_in_the_order_of_their_tokens[finish]",),
    ),
    Guard(
        "order of locks: taking back",
        RECOVERY,
        "WHERE {chosen} ORDER BY lease_token {locking}",
        "WHERE {chosen} {locking}",
        (f"{_ORDERS}test_leases_are_locked_in_the_order_of_their_tokens[hand_back]",),
    ),
    Guard(
        "order of locks: cancelling",
        "cluster/store/queue/submissions.py",
        "WHERE video_id = ANY (%(ids)s) ORDER BY lease_token FOR UPDATE",
        "WHERE video_id = ANY (%(ids)s) FOR UPDATE",
        (f"{_ORDERS}test_leases_are_locked_in_the_order_of_their_tokens[cancel]",),
    ),
]

_TAKING_BACK = [
    Guard(
        "the reaper takes what has expired",
        RECOVERY,
        '"expires_at < clock_timestamp() AND NOT (',
        '"NOT (',
        (f"{_QUEUE_TESTS}test_only_expired_leases_are_reaped",),
    ),
    Guard(
        "a scheduler reaps nothing that it holds",
        RECOVERY,
        " AND NOT (scheduler = %(scheduler)s AND lease_token = ANY (%(held)s))",
        "",
        (
            f"{_QUEUE_TESTS}test_expired_lease_that_the_scheduler_holds_is_its_own",
            f"{_SCHEDULER}test_what_a_scheduler_holds_it_does_not_take_back",
        ),
    ),
    Guard(
        "a failed heartbeat is soon repeated",
        "actors/scheduler/scheduler.py",
        "min(BEAT_AGAIN_S, self._config.lease_s / 4)",
        "self._config.lease_s / 4",
        (f"{_SCHEDULER}test_a_failed_heartbeat_is_soon_repeated",),
    ),
    Guard(
        "a cancelled video's scheduler is notified",
        "cluster/store/queue/submissions.py",
        "            notify_ended_leases(connection, tokens)\n",
        "",
        (f"{_SCHEDULER}test_a_cancelled_video_is_abandoned_at_once",),
    ),
    Guard(
        "a session that does not answer is given up",
        "cluster/store/postgres/connections.py",
        "if timeout is not None or self.answer_timeout_s is None:",
        "if True:",
        (
            "tests/integration/test_silent_server.py::test_session_whose_backend_is_stopped_is_given_up",
            f"{_SCHEDULER}test_a_heart_whose_session_is_stopped_takes_another",
        ),
    ),
    Guard(
        "a host that acknowledges nothing is given up",
        "cluster/store/postgres/connections.py",
        ', "tcp_user_timeout": UNACKNOWLEDGED_S * 1000',
        "",
        ("tests/integration/test_database_tls.py::test_a_server_that_acknowledges_nothing_is_given_up_in_time",),
    ),
    Guard(
        "the reaper waits for nobody",
        RECOVERY,
        "LIMIT %(limit)s FOR UPDATE SKIP LOCKED",
        "LIMIT %(limit)s FOR UPDATE",
        (f"{_RACES}test_the_reaper_waits_for_nobody",),
    ),
    Guard(
        "the reaper decides under the lock",
        RECOVERY,
        "LIMIT %(limit)s FOR UPDATE SKIP LOCKED",
        "LIMIT %(limit)s",
        (f"{_RACES}test_a_heartbeat_that_comes_first_keeps_the_lease",),
    ),
    Guard(
        "the reaper's batch has a bound",
        RECOVERY,
        "LIMIT %(limit)s FOR UPDATE SKIP LOCKED",
        "FOR UPDATE SKIP LOCKED",
        (f"{_QUEUE_TESTS}test_reaping_stops_at_its_limit",),
    ),
    Guard(
        "a scheduler takes back its own alone",
        RECOVERY,
        '= "scheduler = %(scheduler)s", ',
        '= "true", ',
        (f"{_QUEUE_TESTS}test_a_restarted_scheduler_takes_back_its_own_alone",),
    ),
    Guard(
        "taking back one's own waits for what is being written",
        RECOVERY,
        '%(scheduler)s", "FOR UPDATE"',
        '%(scheduler)s", ""',
        (f"{_OPEN_RUNS}[hand_back]", f"{_OPEN_RUNS}[reap_own]"),
    ),
    Guard(
        "taking back believes no impossible beginning",
        RECOVERY,
        "started_at=STARTED_AT, lost_run",
        'started_at="v.processing_started_at", lost_run',
        (f"{_TIMES}test_expired_leases_are_taken_back_at_any_stated_beginning",),
    ),
    Guard(
        "a video that cannot be taken back holds up no other",
        RECOVERY,
        "        except REFUSALS as error:\n            logger.debug(",
        "        except REFUSALS as error:\n            raise\n            logger.debug(",
        (f"{_TIMES}test_video_whose_row_is_refused_holds_up_no_other",),
    ),
    Guard(
        "a video that a trigger keeps PROCESSING keeps its lease: taking back",
        RECOVERY,
        " AND (NOT v.processing OR v.id IN (SELECT id FROM taken_back))",
        "",
        (f"{_REFUSED}test_a_refused_lease_is_kept_and_taken_back_once_allowed[False-skip]",),
    ),
    Guard(
        "a video that a trigger keeps PROCESSING keeps its lease: finishing",
        QUEUE,
        "DELETE FROM video_leases AS l USING finished WHERE l.video_id = finished.id",
        "DELETE FROM video_leases AS l USING held WHERE l.video_id = held.video_id",
        (f"{_REFUSED}test_a_video_whose_end_is_refused_keeps_its_lease[finish-skip]",),
    ),
    Guard(
        "a video that a trigger keeps PROCESSING keeps its lease: failing and waiting again",
        QUEUE,
        "DELETE FROM video_leases AS l USING settled WHERE l.video_id = settled.id",
        "DELETE FROM video_leases AS l USING held WHERE l.video_id = held.video_id",
        (
            f"{_REFUSED}test_a_video_whose_end_is_refused_keeps_its_lease[_fail-skip]",
            f"{_REFUSED}test_a_video_whose_end_is_refused_keeps_its_lease[_retry-skip]",
        ),
    ),
    Guard(
        "a video that a trigger keeps PROCESSING keeps its lease: cancelling",
        "cluster/store/queue/submissions.py",
        "DELETE FROM video_leases AS l USING cancelled AS c WHERE l.video_id = c.id",
        "DELETE FROM video_leases AS l USING chosen AS c WHERE l.video_id = c.id",
        (f"{_REFUSED}test_a_video_whose_end_is_refused_keeps_its_lease[_cancel-skip]",),
    ),
    Guard(
        "refused leases take no other's place",
        RECOVERY,
        "SET expires_at = greatest(l.expires_at, clock_timestamp() + make_interval(secs => r.delay_s))",
        "SET expires_at = l.expires_at",
        (f"{_REFUSED}test_more_refused_leases_than_a_look_takes_hold_up_no_other",),
    ),
    Guard(
        "a refused row is tried at growing intervals",
        "cluster/store/postgres/refusals.py",
        "min(2 * known.delay_s, LONGEST_DELAY_S)",
        "FIRST_DELAY_S",
        (f"{_REFUSED}test_refused_row_intervals_double_and_are_logged_once",),
    ),
    Guard(
        "refusals are forgotten after a while",
        "cluster/store/postgres/refusals.py",
        "        self._drop_old(now_s)\n",
        "",
        (f"{_REFUSED}test_refused_row_intervals_double_and_are_logged_once",),
    ),
    Guard(
        "times that Python lacks are read",
        "cluster/store/postgres/connections.py",
        '    connection.adapters.register_loader("timestamptz", AnyTime)\n',
        "",
        (f"{_TIMES}test_rows_are_read_whatever_times_they_have",),
    ),
    Guard(
        "taking back closes what is open",
        RECOVERY,
        "FROM released WHERE r.video_id = released.video_id AND r.outcome = 'running'",
        "FROM released WHERE r.video_id = released.video_id AND false",
        (f"{_QUEUE_TESTS}test_only_expired_leases_are_reaped",),
    ),
    Guard(
        "interruptions have a bound",
        RECOVERY,
        "%(counted)s > 0 AND p.interruptions + %(counted)s >= %(max_interruptions)s AS spent",
        "false AS spent",
        (f"{_QUEUE_TESTS}test_last_interruption_fails_naming_the_last_open_stage",),
    ),
    Guard(
        "a stop that hands back fails nothing",
        RECOVERY,
        "%(counted)s > 0 AND p.interruptions",
        "p.interruptions",
        (f"{_RACES}test_what_is_handed_back_never_fails_for_it",),
    ),
]

LEASES = [*_CLAIM, *_HEARTBEAT, *_TAKING_BACK]
