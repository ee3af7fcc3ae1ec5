"""The product behind a real PgBouncer that keeps no session."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from cluster.contracts.database_url import DatabaseUrl
from cluster.contracts.errors import ConfigurationError
from cluster.contracts.search import Retriever, parse_words
from cluster.contracts.stages import Stage
from cluster.store.index.model_registry import changing_alone
from cluster.store.metrics import figures
from cluster.store.postgres.connections import EmbeddedPostgres, Pool, advisory_lock, open_pool
from cluster.store.postgres.migrations import apply_migrations
from cluster.store.queue.notify import Hints, can_listen, notifications, notify
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.search.hits import record_search
from cluster.store.search.postgres_check import PostgresCheck
from cluster.store.search.postgres_index import PostgresSearchIndex
from cluster.store.videos.scenes import SceneStore
from tests.support.own_server import running
from tests.support.queued_videos import OWNER, begin, enqueue, finish, row, scenes, transcript
from tests.support.real_pgbouncer import SESSIONS, RealPgBouncer
from tests.support.searchable import Scene, Scope, add_video, found, meant


@pytest.fixture(scope="module")
def pooler(postgres_server: EmbeddedPostgres) -> Iterator[RealPgBouncer]:
    with running(lambda folder: RealPgBouncer(folder, postgres_server.url)) as server:
        yield server


@pytest.fixture
def plain_url(pooler: RealPgBouncer, database_url: str) -> str:
    """The test's database through the pooler, all of its sessions open, without a word that it is a pooler."""
    url = pooler.url(str(conninfo_to_dict(database_url)["dbname"]))
    with ExitStack() as opened:
        for _ in range(SESSIONS):
            opened.enter_context(psycopg.connect(url)).execute("SELECT 1")
    return url


@pytest.fixture
def pooled_url(plain_url: str) -> str:
    return str(DatabaseUrl(plain_url, pooled=True))


@pytest.fixture
def pooled(pooled_url: str) -> Iterator[Pool]:
    with open_pool(pooled_url, min_size=2, max_size=4, name="tests") as opened:
        yield opened


def test_pooler_without_the_setting_breaks_the_queue(plain_url: str) -> None:
    with open_pool(plain_url, min_size=1, max_size=1, name="tests") as opened, pytest.raises(psycopg.Error):
        _enqueue_often(opened)


def test_pooler_whole_queue_works(pooled: Pool) -> None:
    queue = VideoQueue(pooled, "first", 60.0)
    enqueue(pooled, 3 * SESSIONS)
    for _ in range(3 * SESSIONS):
        (video,) = queue.claim(1)
        assert queue.heartbeat([video.lease_token]) == {video.lease_token}
        begin(pooled, video, Stage.FINALIZING)
        SceneStore(pooled).replace(video.id, video.lease_token, transcript("the tide"), scenes(video.id, "tide"), 1.0)
        finish(queue, video)
        assert row(pooled, video.id)["status"] == "READY"


def test_pooler_search_and_metrics_answer(pooled: Pool) -> None:
    (scene,) = add_video(pooled, OWNER, [Scene("the tide comes in")])
    index = PostgresSearchIndex(pooled)
    for _ in range(2 * SESSIONS):
        assert found(index.words(parse_words("tides"), Scope(OWNER), 5)) == [scene]
        assert found(index.nearest(Retriever.MEANING, meant("the tide"), Scope(OWNER), 5)) == [scene]
        assert figures.get_overview(pooled)["videos_ready_total"] == 1
        assert figures.get_throughput_v2(pooled, 30) != []
    record_search(pooled, OWNER, "tides", 1, 2)


def test_pooler_transactions_are_in_utc_with_timeouts(pooled: Pool) -> None:
    for _ in range(2 * SESSIONS):
        with pooled.connection() as connection:
            settings = connection.execute(
                "SELECT current_setting('TimeZone') AS zone, current_setting('statement_timeout') AS timeout"
            ).fetchone()
        assert settings == {"zone": "UTC", "timeout": "1min"}


def test_pooler_repeatable_read_can_still_be_asked_for(pooled: Pool) -> None:
    with pooled.connection() as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")


def test_pooler_leaves_no_setting_in_the_sessions(pooled: Pool, plain_url: str) -> None:
    with pooled.connection() as connection:
        connection.execute("SELECT 1")
    for _ in range(2 * SESSIONS):
        with psycopg.connect(plain_url) as other:
            assert other.execute("SHOW statement_timeout").fetchone() == ("0",)


def test_pooler_migrates_an_empty_database(pooler: RealPgBouncer, bare_database_url: str) -> None:
    url = str(DatabaseUrl(pooler.url(str(conninfo_to_dict(bare_database_url)["dbname"])), pooled=True))
    assert apply_migrations(url) != []
    assert apply_migrations(url) == []


@pytest.mark.parametrize("way", ["pooled", "direct", "session"])
def test_advisory_lock_excludes_others_until_its_end(way: str, pooled_url: str, database_url: str) -> None:
    direct = str(DatabaseUrl(DatabaseUrl.read(pooled_url).url, True, database_url))
    url = {"pooled": pooled_url, "direct": direct, "session": database_url}[way]
    for _ in range(SESSIONS):
        with advisory_lock(url, 4711, name="first") as held, advisory_lock(url, 4711, name="second") as other:
            assert (held, other) == (True, False)
    with advisory_lock(url, 4711, name="third", wait=True) as held:
        assert held


def test_reembedding_twice_at_once_is_refused(pooled_url: str) -> None:
    with changing_alone(pooled_url), pytest.raises(ConfigurationError), changing_alone(pooled_url):
        pass


def test_listening_goes_past_the_pooler(pooled_url: str, pooled: Pool, database_url: str) -> None:
    assert not can_listen(pooled_url)
    both = str(DatabaseUrl(DatabaseUrl.read(pooled_url).url, True, database_url))
    assert can_listen(both)
    heard = notifications(both, 0.2)
    assert [next(heard), next(heard)] == [Hints(videos_wait=True), Hints()]
    with pooled.connection() as connection:
        notify(connection)
    assert any(next(heard).videos_wait for _ in range(50))


def test_index_rebuild_works_through_the_pooler(pooled: Pool, pooled_url: str) -> None:
    PostgresCheck(pooled, pooled_url).rebuild()


def test_commands_work_through_the_pooler(plain_url: str, database_url: str, tmp_path: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HEIMDEX_")},
        "HEIMDEX_DATABASE_URL": plain_url,
        "HEIMDEX_DATABASE_POOLER": "transaction",
        "HEIMDEX_DATABASE_DIRECT_URL": database_url,
        "HEIMDEX_DATA_DIR": str(tmp_path / "data"),
        "HEIMDEX_OWNER_ID": str(uuid.uuid4()),
    }
    for arguments in (["submit", "/videos/a.mp4"], ["index", "verify"]):
        done = subprocess.run(
            [sys.executable, "-m", "cluster.cli.main", *arguments], env=environment, capture_output=True, check=False
        )
        assert (done.returncode, done.stderr.strip()) == (0, b""), arguments


def _enqueue_often(pool: Pool) -> None:
    for _ in range(10 * SESSIONS):
        enqueue(pool)
