"""A migration is applied and recorded in one transaction: never the one without the other."""

import pytest

from cluster.contracts.errors import ConfigurationError
from cluster.store.postgres.connections import connect
from cluster.store.postgres.migrations import all_migrations, apply_migrations


def test_a_file_that_cannot_be_recorded_leaves_nothing_behind(database_url: str) -> None:
    (migration,) = (m for m in all_migrations() if m.name == "025_add_fair_queue.sql")
    with connect(database_url) as connection:
        connection.execute("DROP TABLE video_stage_results")
        connection.execute("DELETE FROM heimdex_migrations WHERE number = %s", (migration.number,))
        connection.execute(f"ALTER TABLE heimdex_migrations ADD CHECK (number <> {migration.number})")
    with pytest.raises(ConfigurationError, match=f"{migration.name} cannot be applied"):
        apply_migrations(database_url)
    with connect(database_url) as connection:
        assert connection.execute("SELECT to_regclass('video_stage_results') AS t").fetchall() == [{"t": None}]
