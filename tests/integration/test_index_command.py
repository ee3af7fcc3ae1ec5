"""``heimdex index`` as a person types it, on both engines."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.store.opensearch.documents import document_id
from cluster.store.postgres.connections import Pool
from tests.support.api_client import Heimdex
from tests.support.followed_opensearch import MODELS, FollowedOpenSearch, followed_opensearch
from tests.support.queued_videos import OWNER
from tests.support.searchable import Scene, add_video


@pytest.fixture
def engine(
    pool: Pool, database_url: str, opensearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FollowedOpenSearch]:
    """With its URL in the commands' settings, the models in use, and a video that is in line."""
    with followed_opensearch(pool, database_url, opensearch_url) as followed:
        add_models(pool)
        add_video(pool, OWNER, [Scene("low tide"), Scene("high tide")])
        followed.follower.follow_all(videos(pool))
        followed.searched()
        yield followed


@pytest.fixture
def with_engine(
    engine: FollowedOpenSearch, database_url: str, tmp_path: Path
) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs ``heimdex`` with that engine."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HEIMDEX_")},
        "HEIMDEX_DATABASE_URL": database_url,
        "HEIMDEX_DATA_DIR": str(tmp_path / "data"),
        "HEIMDEX_OWNER_ID": str(OWNER),
        "HEIMDEX_OPENSEARCH_URL": engine.address.url,
        "HEIMDEX_OPENSEARCH_PREFIX": engine.address.prefix,
    }

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "cluster.cli.main", *arguments]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


def add_models(pool: Pool) -> None:
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO search_models (space, model, name, state) "
            "VALUES ('picture', %s, 'p', 'active'), ('meaning', %s, 'm', 'active')",
            (MODELS.vision, MODELS.text),
        )


def videos(pool: Pool) -> list[Any]:
    with pool.connection() as connection:
        return [row["video_id"] for row in connection.execute("SELECT video_id FROM search_changes")]


def test_what_differs_is_told_and_repaired(
    with_engine: Callable[..., "subprocess.CompletedProcess[str]"], engine: FollowedOpenSearch, pool: Pool
) -> None:
    (video,) = videos(pool)
    status = json.loads(with_engine("index", "status", "--json").stdout)
    assert status["engine"] == f"OpenSearch at {engine.address.url}"
    assert (status["videos_to_follow"], status["videos_refused"]) == (0, 0)
    (index,) = status["indexes"]
    assert (index["state"], index["documents"]) == ("live", 2)

    whole = with_engine("index", "verify")
    assert (whole.returncode, "2 scenes compared, 0 differences" in whole.stdout) == (0, True)

    engine.client.delete(index=index["name"], id=document_id(video, 1))
    spoilt = with_engine("index", "verify", "--json")
    assert spoilt.returncode == 1
    (verdict,) = json.loads(spoilt.stdout)
    assert (verdict["compared"], verdict["differences"], verdict["missing"]) == (2, 1, 1)
    assert verdict["examples"] == [f"missing: scene 1 of video {video}"]

    repaired = with_engine("index", "verify", "--repair")
    assert (repaired.returncode, "0 differences" in repaired.stdout) == (0, True)
    assert with_engine("index", "verify").returncode == 0


def test_a_rebuild_names_the_new_index(
    with_engine: Callable[..., "subprocess.CompletedProcess[str]"], engine: FollowedOpenSearch
) -> None:
    (before,) = engine.indexes.rows()
    done = with_engine("index", "rebuild")
    (after,) = engine.indexes.rows()
    assert done.stdout == f"Searches are answered by the new index {after['name']}.\n"
    assert after["name"] != before["name"]


def test_forgetting_reaches_the_engine_without_a_cluster(
    with_engine: Callable[..., "subprocess.CompletedProcess[str]"], engine: FollowedOpenSearch, pool: Pool
) -> None:
    assert with_engine("forget", "--yes", "s3://bucket/a.mp4").returncode == 0
    assert engine.changes.backlog().pending == 0
    told = with_engine("index", "verify")
    assert (told.returncode, "0 scenes compared, 0 differences" in told.stdout) == (0, True)


def test_postgres_is_its_own_index(heimdex: Heimdex, pool: Pool) -> None:
    add_models(pool)
    add_video(pool, OWNER, [Scene("low tide")])
    status = json.loads(heimdex("index", "status", "--json").stdout)
    assert status["engine"] == "Postgres"
    assert [(table["by"], table["dimensions"]) for table in status["vectors"]] == [("meaning", 384), ("picture", 512)]
    assert heimdex("index", "verify").stdout.startswith(b"Postgres: 1 scene compared, 0 differences")
    with pool.connection() as connection:
        connection.execute("UPDATE video_scenes SET text_index = NULL")
    assert heimdex("index", "verify").returncode == 1
    assert heimdex("index", "verify", "--repair").returncode == 0
    assert heimdex("index", "rebuild").returncode == 0
