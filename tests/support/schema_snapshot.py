"""The schema that all migrations make together: ``make schema`` writes it to ``sql/schema.sql``."""

import re
import subprocess
from pathlib import Path

from cluster.store.postgres.embedded import EmbeddedPostgres
from cluster.store.postgres.migrations import apply_migrations
from cluster.store.postgres.programs import binary
from tests.support.own_server import running

SNAPSHOT = Path(__file__).parents[2] / "sql" / "schema.sql"
HEADER = """\
-- What the migrations make together, as pg_dump writes it; rights are heimdex_role_rights'. For readers: nothing runs
-- this file, and a test holds it true. `make schema` writes it again.
"""
_QUOTE = re.compile(r"\$_?\$")
_NOISE = re.compile(r"^(--|SET |SELECT pg_catalog\.set_config|\\(un)?restrict\b)")


def dumped(url: str) -> str:
    """The schema of a migrated database, without owners, rights, comments of pg_dump and settings of its session."""
    command = [str(binary("pg_dump")), "--schema-only", "--no-owner", "--no-privileges", url]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = "\n".join(_without_noise(text))
    return HEADER + "\n" + re.sub(r"\n{3,}", "\n\n", lines).strip() + "\n"


def _without_noise(dump: str) -> list[str]:
    """Bodies of functions are left as they are."""
    kept, in_body = [], False
    for line in dump.splitlines():
        if in_body or not _NOISE.match(line):
            kept.append(line)
        in_body ^= len(_QUOTE.findall(line)) % 2 == 1
    return kept


def write() -> None:
    """Write the snapshot again, from a server of its own."""
    with running(lambda folder: EmbeddedPostgres(folder / "postgres")) as server:
        apply_migrations(server.url)
        SNAPSHOT.write_text(dumped(server.url))


if __name__ == "__main__":
    write()
