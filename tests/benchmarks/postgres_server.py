"""A Postgres server of a benchmark's own, with its defaults: what is committed is durable. Gone afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

import psutil

from cluster.store.postgres.connections import EmbeddedPostgres, connect
from cluster.store.postgres.migrations import apply_migrations
from cluster.store.postgres.postmaster import read_postmaster_file
from tests.support.own_server import running

OWNERS = 3

_FILL = """
-- As ``submit`` does, but for owners in turn and without sending each row.
WITH added AS (
    INSERT INTO videos (owner_id, storage_path, filename, status, processing_stage, queued_at)
    SELECT md5((n %% %(owners)s)::text)::uuid, 'toy://none/none/' || n, n || '.mp4', 'PENDING', 'queued',
           moment + n * interval '1 microsecond'
    FROM generate_series(1, %(count)s) AS n, (SELECT clock_timestamp() AS moment) AS clock
    RETURNING id, owner_id, queued_at
)
INSERT INTO video_processing (video_id, owner_id, due_at, available_at)
SELECT id, owner_id, queued_at, clock_timestamp() FROM added
"""


@contextmanager
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """The server, with the cluster's tables in its own database."""
    with running(lambda folder: EmbeddedPostgres(folder / "postgres")) as server:
        apply_migrations(server.url)
        yield server


def server_cpu_s(server: EmbeddedPostgres) -> float:
    """CPU seconds that all processes of the server have used so far, those that have ended included."""
    file = read_postmaster_file(server.data_dir)
    assert file is not None
    postmaster = psutil.Process(file.pid)
    used = postmaster.cpu_times()
    total = used.user + used.system + used.children_user + used.children_system
    for session in postmaster.children():
        with suppress(psutil.NoSuchProcess):
            total += session.cpu_times().user + session.cpu_times().system
    return float(total)


def database_beside(url: str, name: str) -> str:
    """The URL of a new database on the same server."""
    with connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def fill(url: str, count: int) -> None:
    """So many videos wait, and none else is there."""
    with connect(url, autocommit=True, statement_timeout_s=0) as connection:
        connection.execute("TRUNCATE videos CASCADE")
        connection.execute(_FILL, {"owners": OWNERS, "count": count})
        connection.execute("VACUUM ANALYZE videos")
