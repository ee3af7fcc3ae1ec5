"""The embedded server and the pool, on a real Postgres."""

from cluster.store.database import Pool, connect


def test_sessions_are_in_utc_and_named(pool: Pool, database_url: str) -> None:
    with pool.connection() as connection:
        row = connection.execute(
            "SELECT current_setting('TimeZone') AS zone, current_setting('application_name') AS name"
        ).fetchone()
        assert row == {"zone": "UTC", "name": "tests"}
    with connect(database_url) as connection:
        assert connection.execute("SELECT now() AS t").fetchall()[0]["t"].utcoffset().total_seconds() == 0
