"""The guards in the database: who may execute and read what, what cannot be written, how long sessions may hold on."""

from tests.chaos.guards_trial import Guard

METRICS = "sql/migrations/018_admin_metrics_phase1.sql"
PLAUSIBLE = "sql/migrations/050_ignore_implausible_values.sql"
BASE = "sql/migrations/001_base_tables.sql"
LEDGER = "sql/migrations/021_add_stage_runs.sql"
FAIR = "sql/migrations/025_add_fair_queue.sql"
DATABASE = "cluster/store/postgres/connections.py"
MIGRATIONS = "cluster/store/postgres/migrations.py"

_RIGHTS = "tests/integration/test_privileges.py::"
_UNMIGRATED = "tests/integration/test_unmigrated.py::"
_MIGRATED = "tests/integration/test_migrations.py::"
BOUNDED = "cluster/store/postgres/bounded_texts.py"
_LONG = "tests/integration/test_long_texts.py::"
_FIGURES = "tests/integration/test_implausible_figures.py::"
_SESSIONS = "tests/integration/test_database.py::"
_IDLE = "tests/integration/test_session_limits.py::"
_CLOSED = f"{_RIGHTS}test_only_service_role_may_execute_or_touch_anything"
_PINNED = f"{_RIGHTS}test_functions_have_callers_rights_and_fixed_search_path"
_FROM_PUBLIC = "        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', function);\n"
_FROM_OUTSIDERS = "            EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %I', function, outsider);\n"
_NOTHING = "            NULL;\n"
_IMPOSSIBLE = "tests/integration/test_stage_ledger.py::test_the_database_refuses_a_run_that_cannot_be"

_PRIVILEGES = [
    Guard(
        "REVOKE EXECUTE from everybody: metrics",
        METRICS,
        _FROM_PUBLIC,
        "",
        (f"{_RIGHTS}test_a_role_without_a_grant_cannot_call_it[heimdex_users_total()]", _CLOSED),
    ),
    Guard(
        "REVOKE EXECUTE from everybody: plausible metrics",
        PLAUSIBLE,
        _FROM_PUBLIC,
        "",
        (f"{_RIGHTS}test_a_role_without_a_grant_cannot_call_it[get_admin_rtf_distribution(30)]", _CLOSED),
    ),
    Guard("REVOKE EXECUTE from a web page: metrics", METRICS, _FROM_OUTSIDERS, _NOTHING, (_CLOSED,)),
    Guard("REVOKE EXECUTE from a web page: plausible metrics", PLAUSIBLE, _FROM_OUTSIDERS, _NOTHING, (_CLOSED,)),
    Guard(
        "REVOKE on the base tables",
        BASE,
        "            EXECUTE format('REVOKE ALL ON TABLE public.%I FROM %I', relation, outsider);\n",
        _NOTHING,
        (_CLOSED,),
    ),
    Guard(
        "REVOKE leaves alone what was there before",
        BASE,
        "        CONTINUE WHEN relation = ANY (string_to_array(current_setting('heimdex.tables_before'), ','));\n",
        "",
        (f"{_RIGHTS}test_existing_tables_keep_their_row_security_rules",),
    ),
    Guard(
        "REVOKE on the cluster's tables",
        FAIR,
        "                EXECUTE format('REVOKE ALL ON TABLE %s FROM %I', relation, outsider);\n",
        _NOTHING,
        (_CLOSED,),
    ),
    Guard(
        "REVOKE on sequences",
        FAIR,
        "        EXECUTE format('REVOKE ALL ON SEQUENCE video_lease_tokens FROM %I', outsider);\n",
        "",
        (_CLOSED,),
    ),
    Guard(
        "functions run with the caller's rights",
        PLAUSIBLE,
        "LANGUAGE sql STABLE\nSET search_path = ''\nAS $$\n    SELECT v.ready",
        "LANGUAGE sql STABLE SECURITY DEFINER\nSET search_path = ''\nAS $$\n    SELECT v.ready",
        (_PINNED,),
    ),
    Guard(
        "a pinned search_path: metrics",
        PLAUSIBLE,
        "SET search_path = ''\nAS $$\n    SELECT v.ready",
        "AS $$\n    SELECT v.ready",
        (_PINNED,),
    ),
    Guard(
        "a pinned search_path: real-time factor",
        PLAUSIBLE,
        "SET search_path = ''\nAS $$\n    SELECT count(*),\n           avg(m.processing_s / m.video_s),",
        "AS $$\n    SELECT count(*),\n           avg(m.processing_s / m.video_s),",
        (_PINNED,),
    ),
    Guard(
        "a sort that is unknown is refused",
        METRICS,
        "IF coalesce(sort_column, '') NOT IN ('last_activity', 'hours_ready', 'videos_ready', 'searches_7d') THEN",
        "IF false THEN",
        ("tests/integration/test_metrics.py::test_an_unknown_sort_is_refused",),
    ),
]

_CHECKS = [
    Guard(
        "figures: an impossible duration counts as none",
        PLAUSIBLE,
        "CASE WHEN $1 BETWEEN 0.000000001 AND 10000000 THEN $1::double precision END",
        "$1::double precision",
        (
            "tests/integration/test_odd_rows.py::test_a_damaged_duration_counts_as_none_in_every_figure[NaN]",
            f"{_FIGURES}test_impossible_values_count_and_are_shown_as_unknown[videos-duration_s]",
        ),
    ),
    Guard(
        "figures: an impossible time counts as none",
        PLAUSIBLE,
        "CASE WHEN $1 BETWEEN 'epoch'::timestamptz AND now() + interval '24 hours' THEN $1 END",
        "$1",
        (
            f"{_FIGURES}test_rows_with_impossible_times_change_no_figure",
            f"{_FIGURES}test_impossible_creation_of_row_is_no_activity",
        ),
    ),
    Guard(
        "figures: an impossible latency counts as none",
        PLAUSIBLE,
        "CASE WHEN $1 BETWEEN 0 AND 2073600000 THEN $1::double precision END",
        "$1::double precision",
        (f"{_FIGURES}test_impossible_values_count_and_are_shown_as_unknown[search_queries-latency_ms]",),
    ),
    Guard(
        "figures: texts are cut",
        PLAUSIBLE,
        "left(s.query_text, 1000)",
        "s.query_text",
        (f"{_FIGURES}test_texts_of_any_length_are_shown_up_to_a_bound",),
    ),
    Guard(
        "figures: stages are bounded in number",
        PLAUSIBLE,
        "    LIMIT 100\n",
        "",
        (f"{_FIGURES}test_stages_of_any_number_are_bounded_in_the_figures",),
    ),
    Guard(
        "the quarantine: texts are cut",
        "cluster/store/queue/submissions.py",
        "{ERROR_MESSAGE} AS error_message",
        "v.error_message",
        (f"{_FIGURES}test_texts_of_any_length_are_shown_up_to_a_bound",),
    ),
    Guard(
        "names of videos are cut",
        BOUNDED,
        'f"left(v.filename, {MOST_SHOWN})"',
        '"v.filename"',
        (f"{_LONG}test_reader_of_a_long_text_holds_its_beginning[list]",),
    ),
    Guard(
        "where a video is, is cut before it is shown",
        BOUNDED,
        'f"left(coalesce(p.uri, v.storage_path), {MAX_URI})"',
        '"coalesce(p.uri, v.storage_path)"',
        (f"{_LONG}test_reader_of_a_long_text_holds_its_beginning[status]",),
    ),
    Guard(
        "a path that would be opened is cut",
        BOUNDED,
        'f"left(v.storage_path, {MAX_URI + 1})"',
        '"v.storage_path"',
        (f"{_LONG}test_claim_of_a_long_text_holds_its_beginning",),
    ),
    Guard(
        "a path that was cut is not opened",
        "cluster/files/origins.py",
        "    if len(uri) > MAX_URI:\n",
        "    if not uri:\n",
        (f"{_LONG}test_claim_of_a_long_text_holds_its_beginning",),
    ),
    Guard(
        "tags of a scene are counted",
        "cluster/store/index/scene_text.py",
        "[1:{MAX_TAGS}]",
        "",
        (f"{_LONG}test_scenes_of_a_long_text_hold_its_beginning",),
    ),
    Guard(
        "a transcript of another system has a most",
        "cluster/store/videos/transcripts.py",
        "left(existing.text, {MAX_LETTERS}) AS",
        "existing.text AS",
        (f"{_LONG}test_transcript_of_a_long_text_is_its_beginning",),
    ),
    Guard(
        "no half of a password is shown where a text was cut",
        "cluster/security/redaction.py",
        '        text = _LAST_WORD.sub("", text)\n',
        "        pass\n",
        (f"{_FIGURES}test_no_half_of_a_password_is_shown_where_a_text_is_cut",),
    ),
    Guard(
        "the database: a run is open or has ended",
        LEDGER,
        "    CHECK ((outcome = 'running') = (finished_at IS NULL)),\n",
        "",
        (f"{_IMPOSSIBLE}[outcome = 'completed']", f"{_IMPOSSIBLE}[finished_at = ready_at]"),
    ),
    Guard(
        "the database: no run ends before it is ready",
        LEDGER,
        "    CHECK (finished_at >= ready_at),\n",
        "",
        (f"{_IMPOSSIBLE}[outcome = 'completed', finished_at = ready_at - interval '1 ms']",),
    ),
    Guard(
        "the database: no run ends before it starts",
        LEDGER,
        "    CHECK (finished_at >= started_at),\n",
        "",
        (f"{_IMPOSSIBLE}[outcome = 'completed', finished_at = ready_at, started_at = ready_at + interval '1 ms']",),
    ),
    Guard(
        "the database: what failed says why",
        LEDGER,
        "    CHECK (outcome NOT IN ('failed', 'lost') OR error_type IS NOT NULL)\n",
        "    CHECK (true)\n",
        (f"{_IMPOSSIBLE}[outcome = 'failed', finished_at = ready_at]",),
    ),
    Guard(
        "the database: a video's scenes have one place each",
        BASE,
        "    UNIQUE (video_id, index)\n",
        "    CHECK (true)\n",
        ("tests/integration/test_scene_guards.py::test_two_scenes_of_a_video_have_no_place_in_common",),
    ),
    Guard(
        "scenes are replaced and not added",
        "cluster/store/videos/scenes.py",
        '                connection.execute("DELETE FROM video_scenes WHERE video_id = %s", (video_id,))\n',
        "",
        ("tests/integration/test_scenes.py::test_a_repeat_replaces_what_was_there",),
    ),
]

_SESSION = [
    Guard(
        "idle_in_transaction_session_timeout",
        DATABASE,
        "round(IDLE_IN_TRANSACTION_S * 1000 if statement_timeout_s else 0),",
        "0,",
        (
            f"{_IDLE}test_idle_transaction_is_ended_and_releases_its_locks",
            f"{_IDLE}test_only_who_may_wait_for_ever_may_idle_for_ever",
        ),
    ),
    Guard(
        "statement_timeout",
        DATABASE,
        "round(statement_timeout_s * 1000),",
        "0,",
        (f"{_SESSIONS}test_statement_without_a_request_for_it_has_a_time_limit",),
    ),
    Guard(
        "sessions are looked at before they are lent",
        DATABASE,
        "        check=ConnectionPool.check_connection,\n",
        "",
        (f"{_SESSIONS}test_ended_idle_session_is_replaced_before_it_is_lent",),
    ),
    Guard(
        "a session that is lost is told from a statement that failed",
        DATABASE,
        "if borrowed is None or borrowed.closed or is_connection_lost(error):",
        "if True:",
        (f"{_IDLE}test_statement_error_is_not_taken_for_database_away",),
    ),
    Guard(
        "passwords of URLs that cannot be read",
        DATABASE,
        'postgresql://user:password@host:5432/database"\n        ) from None',
        'postgresql://user:password@host:5432/database, not like " + url\n        ) from None',
        (f"{_SESSIONS}test_value_that_is_no_url_is_refused_without_quoting_it",),
    ),
    Guard(
        "one process migrates",
        MIGRATIONS,
        'with advisory_lock(url, _ADVISORY_LOCK, name="heimdex migrate lock", wait=True):\n'
        "            if not _has_record",
        'with advisory_lock(url, connection.info.backend_pid, name="heimdex migrate lock", wait=True):\n'
        "            if not _has_record",
        (f"{_MIGRATED}test_several_that_migrate_at_once_apply_each_file_once",),
    ),
    Guard(
        "a migration that was applied does not change",
        MIGRATIONS,
        "if applied.get(migration.number, migration.sha256) not in accepted:",
        "if not migration.sha256:",
        (f"{_MIGRATED}test_a_file_that_changed_after_it_was_applied_is_refused",),
    ),
    Guard(
        "a migration is applied whole or not at all",
        MIGRATIONS,
        "                with connection.transaction():\n",
        "                if True:\n",
        ("tests/integration/test_whole_migrations.py::test_a_file_that_cannot_be_recorded_leaves_nothing_behind",),
    ),
    Guard(
        "a database of a newer version is refused",
        MIGRATIONS,
        "    if newest > known:\n",
        "    if False:\n",
        (f"{_UNMIGRATED}test_database_of_a_newer_version_is_refused",),
    ),
    Guard(
        "a command migrates no database that others may be using",
        "cluster/runtime/launch.py",
        "        if in_use:\n",
        "        if False:\n",
        (
            f"{_UNMIGRATED}test_command_on_what_lacks_migrations_says_what_to_run[list]",
            f"{_UNMIGRATED}test_embedded_server_that_runs_is_only_checked",
        ),
    ),
    Guard(
        "`heimdex up` migrates no database of others",
        "cluster/runtime/launch.py",
        "    if not ours:\n",
        "    if False:\n",
        (f"{_UNMIGRATED}test_up_only_checks_a_database_of_others",),
    ),
]

SQL = [*_PRIVILEGES, *_CHECKS, *_SESSION]
