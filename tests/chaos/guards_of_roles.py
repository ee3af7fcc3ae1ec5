"""The guards of the database's roles: what each may do, and how the embedded server lets them in."""

from tests.chaos.guards_trial import Guard

RIGHTS = "sql/migrations/045_add_database_roles.sql"
SOURCES = "sql/migrations/049_restrict_rows_of_api.sql"
LEDGER = "sql/migrations/047_restrict_ledger_of_api.sql"
TABLES = "sql/migrations/051_bound_outbox_and_vector_tables.sql"
EMBEDDED = "cluster/store/postgres/embedded_roles.py"

_ROLES = "tests/integration/test_database_roles.py::"
_ENTERED = "tests/integration/test_embedded_roles.py::"

ROLE_RIGHTS = [
    Guard(
        "the reader writes nothing",
        RIGHTS,
        "('videos', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE', 'SELECT'),",
        "('videos', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE', 'SELECT, DELETE'),",
        (f"{_ROLES}test_reader_reads_everything_and_writes_nothing",),
    ),
    Guard(
        "the API changes no rights",
        RIGHTS,
        "    REVOKE ALL ON FUNCTION public.heimdex_grant_roles(text) FROM PUBLIC;\n",
        "",
        (f"{_ROLES}test_api_may_not[SELECT heimdex_grant_roles()]",),
    ),
    Guard(
        "the API submits by the rules of HTTP",
        SOURCES,
        "public.video_processing\n    FOR EACH ROW WHEN (current_user = 'heimdex_api')",
        "public.video_processing\n    FOR EACH ROW WHEN (false)",
        (f"{_ROLES}test_api_submits_by_the_rules_of_http_alone",),
    ),
    Guard(
        "the API moves no row of the queue",
        SOURCES,
        "AND NEW.video_id = OLD.video_id AND NEW.owner_id = OLD.owner_id\n",
        "\n",
        (f"{_ROLES}test_api_submits_by_the_rules_of_http_alone",),
    ),
    Guard(
        "the API takes no lease",
        SOURCES,
        "public.video_leases\n    FOR EACH ROW WHEN (current_user = 'heimdex_api')",
        "public.video_leases\n    FOR EACH ROW WHEN (false)",
        (f"{_ROLES}test_api_takes_and_prolongs_no_lease",),
    ),
    Guard(
        "the API replaces no source",
        SOURCES,
        "(NEW.uri IS NOT DISTINCT FROM OLD.uri OR NEW.uri = '' OR OLD.origin IN ('http', 'adopted'))",
        "true",
        (f"{_ROLES}test_api_submits_by_the_rules_of_http_alone",),
    ),
    Guard(
        "the API writes no times into the ledger",
        LEDGER,
        "FOR EACH ROW WHEN (current_user = 'heimdex_api')",
        "FOR EACH ROW WHEN (false)",
        (f"{_ROLES}test_api_adds_no_time_and_no_outcome_to_the_ledger",),
    ),
    Guard(
        "the API changes few columns of the ledger",
        LEDGER,
        "SET api = 'SELECT, UPDATE (outcome, finished_at, wait_ms, run_ms, error_type, error_message)'",
        "SET api = 'SELECT, UPDATE'",
        (f"{_ROLES}test_api_adds_no_time_and_no_outcome_to_the_ledger",),
    ),
    Guard(
        "the API makes no table of another model",
        TABLES,
        "    ELSIF session_user = 'heimdex_api'\n",
        "    ELSIF false\n",
        (f"{_ROLES}test_api_has_the_first_table_of_a_space_made_and_no_more",),
    ),
    Guard(
        "the embedded server asks for passwords",
        EMBEDDED,
        "        write_rules(data_dir, GUARDED)\n",
        "",
        (f"{_ENTERED}test_each_role_enters_by_its_own_password_and_no_other_way",),
    ),
    Guard(
        "passwords are their account's alone",
        EMBEDDED,
        "        if mode & 0o077:\n",
        "        if mode & 0o000:\n",
        (f"{_ENTERED}test_passwords_that_others_may_read_are_refused[heimdex_api.pgpass-420]",),
    ),
]
