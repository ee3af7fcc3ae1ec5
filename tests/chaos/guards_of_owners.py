"""The guards around what owners cost and leave behind: limits, quotas, deadlines, the audit log, erasing, the queries'
caches.
"""

from tests.chaos.guards_trial import Guard

REQUESTS = "cluster/store/queue/owner_requests.py"
AGAIN = "cluster/store/queue/reprocessing.py"
SUBMISSIONS_FILE = "cluster/store/queue/submissions.py"
FORGETTING = "cluster/store/videos/deletion.py"
ERASING = "cluster/store/videos/erasing.py"
ATTEMPT = "actors/attempt/attempt.py"
DEADLINES_FILE = "actors/workers/deadlines.py"
QUERIES = "cluster/search/query_models.py"
DOORS = "serve_app/guards.py"
AUDIT_SQL = "sql/migrations/043_add_audit_log.sql"

_LIMITS = "tests/integration/test_owner_limits.py::"
_DEADLINES = "tests/unit/test_deadlines.py::"
_AUDIT = "tests/integration/test_audit_log.py::"
_FORGET = "tests/integration/test_forgetting.py::"
_ERASE = "tests/integration/test_erasing.py::"
_QUERIES = "tests/unit/test_query_models.py::"

_COUNTED = [
    Guard(
        "retries count as submissions",
        AGAIN,
        "            check_again(connection, chosen.owner_id, limits, locked)\n",
        "            pass\n",
        (
            f"{_LIMITS}test_retries_of_one_video_count_as_submissions[retry]",
            f"{_LIMITS}test_retries_of_one_video_count_as_submissions[reprocess]",
        ),
    ),
    Guard(
        "retries are written down as requests",
        AGAIN,
        "        note_again(connection, waiting, kind.request, exempt=limits is None)\n",
        "",
        (f"{_LIMITS}test_retries_of_one_video_count_as_submissions[retry]",),
    ),
    Guard(
        "retries are judged under a lock",
        AGAIN,
        "            lock_owner(connection, chosen.owner_id)\n",
        "            pass\n",
        (f"{_LIMITS}test_retries_at_once_are_counted_one_by_one",),
    ),
    Guard(
        "retries by operators are not the owner's",
        REQUESTS,
        "WHERE owner_id = %(owner)s AND NOT exempt AND id",
        "WHERE owner_id = %(owner)s AND id",
        (f"{_LIMITS}test_retries_by_operators_are_not_the_owners",),
    ),
    Guard(
        "requests are counted apart from the videos",
        SUBMISSIONS_FILE,
        "    INSERT INTO owner_requests (owner_id, video_id, kind) SELECT %(owner)s, id, 'submission' FROM added\n",
        "    SELECT FROM added\n",
        (f"{_LIMITS}test_a_deleted_or_changed_video_frees_no_submission",),
    ),
]

_QUOTAS = [
    Guard(
        "quota of videos",
        REQUESTS,
        '(quotas.videos, used["videos"], asked.videos, "videos"),',
        '(None, used["videos"], asked.videos, "videos"),',
        (f"{_LIMITS}test_a_quota_of_videos_counts_repeated_ones",),
    ),
    Guard(
        "quota in flight",
        REQUESTS,
        'if row["videos"] + asked.videos > quotas.in_flight:',
        "if asked.videos > quotas.in_flight:",
        (f"{_LIMITS}test_a_quota_in_flight_frees_when_videos_end",),
    ),
    Guard(
        "quota in flight: what is processed counts",
        REQUESTS,
        "     + (SELECT count(*) FROM video_leases AS l JOIN video_processing AS p USING (video_id)\n"
        "        WHERE p.owner_id = %(owner)s) AS videos",
        "     AS videos",
        (f"{_LIMITS}test_a_quota_in_flight_frees_when_videos_end",),
    ),
    Guard(
        "quotas of hours and bytes",
        ATTEMPT,
        "            await self._charge(run, total, media)\n",
        "",
        (
            f"{_LIMITS}test_a_measured_video_beyond_a_quota_fails_in_metadata[hours]",
            f"{_LIMITS}test_a_measured_video_beyond_a_quota_fails_in_metadata[bytes]",
        ),
    ),
    Guard(
        "quotas of hours: judged under a lock",
        REQUESTS,
        "            lock_owner(connection, video.owner_id)\n",
        "",
        (f"{_LIMITS}test_charges_at_once_do_not_pass_a_quota",),
    ),
    Guard(
        "quotas of hours: an attempt is charged once",
        REQUESTS,
        "AND id IS DISTINCT FROM %(without)s",
        "AND (id IS DISTINCT FROM %(without)s OR true)",
        (f"{_LIMITS}test_another_attempt_is_charged_once",),
    ),
    Guard(
        "quotas of hours: what was refused counts nothing",
        REQUESTS,
        "refusal, duration_s = error, 0.0",
        "refusal = error",
        (f"{_LIMITS}test_a_refused_video_leaves_the_rest_to_others",),
    ),
    Guard(
        "quotas of hours: a video without times counts",
        REQUESTS,
        "UNTIMED_S if media.duration_s is None else media.duration_s",
        "media.duration_s or 0.0",
        (f"{_LIMITS}test_a_video_without_times_counts_as_an_hour",),
    ),
]

_DEADLINE = [
    Guard(
        "deadlines: a day at most without measurements",
        DEADLINES_FILE,
        "return min(rule.added_s(duration_s), MOST_S)",
        "return rule.added_s(duration_s)",
        (f"{_DEADLINES}test_deadlines_without_measurements_end_within_a_day[transcription]",),
    ),
    Guard(
        "deadlines: a day at most with measurements",
        DEADLINES_FILE,
        "min(FACTOR * expected_s, max(MOST_S, SLOW_FACTOR * expected_s))",
        "FACTOR * expected_s",
        (f"{_DEADLINES}test_a_twelve_hour_video_holds_no_worker_for_days[0.9]",),
    ),
    Guard(
        "deadlines: bounded below",
        DEADLINES_FILE,
        "max(most_s, rule.least_per_video_s * duration_s)",
        "most_s",
        (f"{_DEADLINES}test_deadlines_are_bounded_below",),
    ),
    Guard(
        "deadlines: too few measurements say nothing",
        DEADLINES_FILE,
        "len(self.values) >= ENOUGH",
        "self.values",
        (f"{_DEADLINES}test_deadlines_with_too_few_measurements_are_the_stages",),
    ),
    Guard(
        "deadlines: a speed is a model's",
        DEADLINES_FILE,
        "if self._speeds[call].model != model:",
        "if self._speeds[call].model is None:",
        (f"{_DEADLINES}test_deadlines_after_a_model_change_are_unmeasured",),
    ),
    Guard(
        "deadlines are those of what was measured",
        ATTEMPT,
        "            self._parts.deadlines.note_run(call.name, reply.model, self._duration_s, reply.report.run_s)\n",
        "            pass\n",
        ("tests/integration/test_attempt.py::test_deadlines_are_learned_from_attempts",),
    ),
]

_AUDITED = [
    Guard(
        "audit log: rows are not changed",
        AUDIT_SQL,
        "BEFORE UPDATE OR DELETE ON public.audit_log",
        "BEFORE DELETE ON public.audit_log",
        (f"{_AUDIT}test_entries_cannot_be_changed_or_removed[UPDATE audit_log SET actor = 'another']",),
    ),
    Guard(
        "audit log: rows are not removed early",
        AUDIT_SQL,
        "        IF OLD.at < pg_catalog.clock_timestamp() - interval '30 days' THEN\n",
        "        IF true THEN\n",
        (f"{_AUDIT}test_entries_cannot_be_changed_or_removed[DELETE FROM audit_log]",),
    ),
    Guard(
        "audit log: not emptied",
        AUDIT_SQL,
        "CREATE TRIGGER heimdex_keep_whole_audit_log BEFORE TRUNCATE ON public.audit_log\n"
        "    FOR EACH STATEMENT EXECUTE FUNCTION public.heimdex_keep_audit_log();\n",
        "",
        (f"{_AUDIT}test_entries_cannot_be_changed_or_removed[TRUNCATE audit_log]",),
    ),
    Guard(
        "audit log: closed to a web page",
        AUDIT_SQL,
        "        EXECUTE format('REVOKE ALL ON TABLE public.audit_log FROM %I', outsider);\n",
        "",
        ("tests/integration/test_privileges.py::test_only_service_role_may_execute_or_touch_anything",),
    ),
    Guard(
        "audit log: requests are closed to a web page",
        "sql/migrations/044_add_owner_requests.sql",
        "        EXECUTE format('REVOKE ALL ON TABLE public.owner_requests FROM %I', outsider);\n",
        "",
        ("tests/integration/test_privileges.py::test_only_service_role_may_execute_or_touch_anything",),
    ),
    Guard(
        "audit log: what admins read",
        DOORS,
        "                await run_in_threadpool(reads.note, request, request.state.user_id)\n",
        "                pass\n",
        (
            f"{_AUDIT}test_reading_a_users_figures_is_written_down",
            f"{_AUDIT}test_reading_everybodys_figures_is_once_an_hour",
        ),
    ),
    Guard(
        "audit log: cancelling",
        SUBMISSIONS_FILE,
        "    trail.note(connection, Action.CANCEL, ObjectKind.VIDEO, cancelled)\n",
        "",
        (f"{_AUDIT}test_owners_acts_are_written_down",),
    ),
    Guard(
        "audit log: retrying and reprocessing",
        AGAIN,
        "        trail.note(connection, kind.action, ObjectKind.VIDEO, waiting)\n",
        "",
        (f"{_AUDIT}test_owners_acts_are_written_down", f"{_AUDIT}test_commands_acts_are_written_down"),
    ),
    Guard(
        "audit log: forgetting",
        FORGETTING,
        '            trail.note(connection, Action.FORGET, ObjectKind.VIDEO, [row["id"] for row in rows])\n',
        "",
        (f"{_AUDIT}test_owners_acts_are_written_down",),
    ),
    Guard(
        "a video says by whom it was cancelled",
        SUBMISSIONS_FILE,
        "error_message = 'cancelled ' || %(by)s",
        "error_message = 'cancelled by its owner'",
        (
            f"{_AUDIT}test_a_cancelled_video_says_by_whom[waiting-admin-cancelled by an admin]",
            f"{_AUDIT}test_a_cancelled_video_says_by_whom[claimed-command-cancelled on the command line]",
        ),
    ),
]

_FORGOTTEN = [
    Guard(
        "forgetting: searches for the video",
        FORGETTING,
        "    FROM named WHERE q.id = named.id\n",
        "    FROM named WHERE q.id = named.id AND false\n",
        (f"{_FORGET}test_searches_that_name_a_forgotten_video_lose_their_text",),
    ),
    Guard(
        "forgetting: searches for the name that it is shown by",
        FORGETTING,
        """video_name(row["filename"], row["uri"], row["id"]) for row in named""",
        """row["filename"] for row in named""",
        (f"{_FORGET}test_searches_for_the_shown_name_lose_their_text",),
    ),
    Guard(
        "forgetting nothing locks nothing",
        FORGETTING,
        '    if not hidden and not any(row["to_forget"] for row in named):\n        return []\n',
        "",
        (f"{_FORGET}test_forgetting_nothing_takes_the_table_from_nobody",),
    ),
    Guard(
        "erasing is for one owner",
        ERASING,
        "DELETE FROM search_queries WHERE id IN (SELECT id FROM search_queries WHERE user_id = %(owner)s LIMIT",
        "DELETE FROM search_queries WHERE id IN (SELECT id FROM search_queries WHERE user_id <> %(owner)s LIMIT",
        (f"{_ERASE}test_nothing_of_an_erased_owner_is_left",),
    ),
    Guard(
        "erasing leaves other systems' work alone",
        ERASING,
        "v.id > %(after)s AND NOT ({_ELSEWHERE})\n",
        "v.id > %(after)s\n",
        (f"{_ERASE}test_erasing_leaves_the_files_of_another_systems_work",),
    ),
]

_TIMING = [
    Guard(
        "queries of one owner answer no other sooner",
        QUERIES,
        "return self._cache_of(owner_id)(text)",
        "return self._cache_of(UUID(int=0))(text)",
        (
            f"{_QUERIES}test_query_of_one_owner_is_encoded_for_another[pictures]",
            f"{_QUERIES}test_query_of_one_owner_is_encoded_for_another[meanings]",
            f"{_QUERIES}test_queries_of_one_owner_push_out_no_others",
        ),
    ),
]

OWNERS = [*_COUNTED, *_QUOTAS, *_DEADLINE, *_AUDITED, *_FORGOTTEN, *_TIMING]
