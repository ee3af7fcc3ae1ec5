"""Whether the functions of the admin figures are those of the migrations: others may put theirs in their places.

An existing system's own files define functions of the same names; run after ours, they replace ours without a word. A
function is ours when its arguments, result, language, rights and text are; variants with other arguments must not be.
"""

from psycopg import Connection
from psycopg.rows import DictRow

from cluster.store.postgres.connections import connect
from cluster.store.postgres.migrations import apply_again

DEFINED_BY = (18, 20, 31, 40, 50)
"""The migrations that define them, in order: together they make each as it must be."""

EXPECTED = {
    "get_admin_failures_by_stage(integer)": "0ac28faf8944769ffae16f66c0c15ece",
    "get_admin_overview_metrics()": "1203af7e5ab844631762946e36186a9b",
    "get_admin_processing_latency(integer)": "9391ef3f089180f812a1d9542e42fdea",
    "get_admin_queue_analysis(integer)": "5568c50cb64249fde84fd77708f1f587",
    "get_admin_rtf_distribution(integer)": "ab5e54fac9fa4d5794015ccb1c376106",
    "get_admin_throughput_timeseries_v2(integer)": "2bde7e69e92c89f9f01747d8b39b1040",
    "get_admin_user_detail(uuid,integer)": "07a5ff4bdc519d9bb2315adb43f849bc",
    "get_admin_users_list(integer,integer,integer,text)": "463c1fa630b91f1005474a85eefae31e",
    "get_search_timeseries(integer)": "d60e8c78e2e26a6f09398c398b0ad2f6",
    "get_throughput_timeseries(integer)": "0d2818c81ad774d436a9521c2188d4c1",
    "heimdex_plausible_ms(anyelement)": "26a33ce57364408304e1c64d0d05b6dc",
    "heimdex_plausible_seconds(anyelement)": "84374a7c619b35c789b39ade7abfc7ee",
    "heimdex_plausible_time(timestamp with time zone)": "ec9feb88e5159a44841ac922ff5b4b9f",
    "heimdex_user_activity(integer,uuid)": "a1771fdece8407b313cb989384f0c294",
    "heimdex_users_total()": "8dcd8401726d2364a5597f31debc0980",
}
"""Each function with the MD5 of what it is, the same on every version of the server."""

_FOUND = """
SELECT p.oid::regprocedure::text AS signature,
       md5(concat_ws(E'\\n', pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), l.lanname, p.provolatile,
                     p.prosecdef, p.proconfig::text, p.prosrc)) AS md5,
       p.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(p.proacl) WHERE grantee = 0) AS open_to_all
FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
WHERE p.pronamespace = 'public'::regnamespace AND p.proname = ANY (%s)
"""


def changed_functions(connection: Connection[DictRow]) -> list[str]:
    """The functions that are missing, other than ours, open to PUBLIC, or one too many; sorted."""
    names = sorted({signature.partition("(")[0] for signature in EXPECTED})
    rows = connection.execute(_FOUND, (names,)).fetchall()
    right = {
        row["signature"] for row in rows if EXPECTED.get(row["signature"]) == row["md5"] and not row["open_to_all"]
    }
    return sorted({row["signature"] for row in rows} - right | (EXPECTED.keys() - right))


def replaced_functions(url: str) -> list[str]:
    """What :func:`restore_functions` would define again; changes nothing."""
    with connect(url, name="heimdex migrate") as connection:
        return changed_functions(connection)


def restore_functions(url: str) -> list[str]:
    """Define again what was changed of a migrated database; returns what it was. Raises ConfigurationError."""
    changed = replaced_functions(url)
    if changed:
        apply_again(url, DEFINED_BY)
    return changed
