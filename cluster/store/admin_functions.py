"""Whether the functions of the admin figures are those of the migrations: others may put theirs in their places.

An existing system's own files define functions of the same names; run after ours, they replace ours without a word. A
function is ours when its arguments, result, language, rights and text are; variants with other arguments must not be.
"""

from psycopg import Connection
from psycopg.rows import DictRow

from cluster.store.database import connect
from cluster.store.migrations import apply_again

DEFINED_BY = (18, 20, 31, 40)
"""The migrations that define them, in order: together they make each as it must be."""

EXPECTED = {
    "get_admin_failures_by_stage(integer)": "0d451cad439292c17870d045f60cc285",
    "get_admin_overview_metrics()": "c666ee1b2407aeff50fd02b71b47af87",
    "get_admin_processing_latency(integer)": "31bd99a5d54585da7d5230cbc434a8ff",
    "get_admin_queue_analysis(integer)": "1c114eaffafb6e0464f768ae50d57620",
    "get_admin_rtf_distribution(integer)": "0dd30002d771073303bbc240f1aee27d",
    "get_admin_throughput_timeseries_v2(integer)": "aff15ebbb5cea9fe7eeeca14cb463d7c",
    "get_admin_user_detail(uuid,integer)": "c3422d3e82ee60b09f2fe5066327fafb",
    "get_admin_users_list(integer,integer,integer,text)": "463c1fa630b91f1005474a85eefae31e",
    "get_search_timeseries(integer)": "f5b0716176523a6fe9f37c83e7ea1883",
    "get_throughput_timeseries(integer)": "6693c33439623d293fd70f256eba6d46",
    "heimdex_user_activity(integer,uuid)": "0a73a48d2a8701621be091ba195f0760",
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
    """The functions that are missing, other than ours, open to everybody, or one too many; sorted."""
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
