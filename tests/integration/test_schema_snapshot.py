"""``sql/schema.sql`` is what the migrations make."""

from cluster.store.postgres.migrations import apply_migrations
from tests.support.schema_snapshot import SNAPSHOT, dumped


def test_schema_snapshot_is_what_the_migrations_make(bare_database_url: str) -> None:
    apply_migrations(bare_database_url)
    assert SNAPSHOT.read_text() == dumped(bare_database_url), "run `make schema`"
