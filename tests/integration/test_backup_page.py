"""The page on backup and restore, word for word: its machine is lost, and everything is there again."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from cluster.contracts.database_url import DatabaseRole
from cluster.contracts.search import Retriever
from cluster.runtime import launch
from cluster.settings import Settings, load_settings
from cluster.store.index.model_registry import IndexedModel, SearchModels
from cluster.store.postgres.connections import EmbeddedPostgres, connect, open_pool
from tests.support.own_server import quick_folder, running
from tests.support.queued_videos import OWNER
from tests.support.searchable import TEXT, VISION, Scene, add_video

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "backup.md"
SCENES = [Scene("the tide at noon", "red circle", ("sea",)), Scene("the moon", "blue square")]
BACK_UP, EMBEDDED, OWN_SERVER = range(3)


def block(number: int) -> str:
    return re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)[number]


def run(script: str, folder: Path, **variables: object) -> None:
    """As a person pastes it into a shell; each command must succeed."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    command = programs / "heimdex"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m cluster.cli.main "$@"\n')
    command.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEIMDEX_")}
    environment |= {"PATH": f"{programs}:{environment['PATH']}", "BACKUP": str(folder / "backup")}
    environment |= {name: str(value) for name, value in variables.items()}
    said = folder / "said"
    with said.open("w") as output:
        command_line = ["bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(
            command_line,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, said.read_text()


@pytest.fixture
def folder() -> Iterator[Path]:
    made = quick_folder("heimdex-test-")
    (made / "backup").mkdir()
    yield made
    EmbeddedPostgres(made / "data" / "postgres").stop()
    shutil.rmtree(made)


@pytest.fixture
def settings(folder: Path) -> Settings:
    return load_settings(data_dir=folder / "data")


@pytest.fixture
def lost(folder: Path, settings: Settings) -> dict[str, Any]:
    """A machine with a searchable video and its pictures that was backed up, and then lost: what was on it."""
    with launch.open_database(settings) as url:
        with open_pool(url, max_size=2, name="tests") as pool:
            models = SearchModels(pool)
            models.adopt(Retriever.PICTURE, IndexedModel(VISION.key, "ViT-B-32", "openai", VISION.dimensions))
            models.adopt(Retriever.MEANING, IndexedModel(TEXT.key, "words", None, TEXT.dimensions))
            add_video(pool, OWNER, SCENES)
        assert settings.resolved_owner_id
        picture = settings.data_dir / "scenes" / "00000.jpg"
        picture.parent.mkdir()
        picture.write_bytes(b"a picture")
        before = {"database": contents(url), "owner": settings.resolved_owner_id, "picture": picture.read_bytes()}
        run(block(BACK_UP), folder, HEIMDEX_DATA_DIR=settings.data_dir)
    shutil.rmtree(settings.data_dir)
    return before


def contents(url: str) -> dict[str, Any]:
    """Every row of every table, and who may do what to it."""
    found: dict[str, Any] = {}
    with connect(url) as connection:
        tables = connection.execute(
            "SELECT relname AS name, pg_get_userbyid(relowner) AS owner, relacl::text AS rights FROM pg_class "
            "WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1"
        ).fetchall()
        for table in tables:
            rows = connection.execute(
                sql.SQL("SELECT t::text AS row FROM {} AS t ORDER BY 1").format(sql.Identifier(table["name"]))
            ).fetchall()
            rights = sorted((table["rights"] or "").strip("{}").split(","))
            found[table["name"]] = (table["owner"], rights, [row["row"] for row in rows])
    return found


def test_a_lost_machine_is_restored_from_its_backup(folder: Path, settings: Settings, lost: dict[str, Any]) -> None:
    run(block(EMBEDDED), folder, HEIMDEX_DATA_DIR=settings.data_dir)  # which ends with `heimdex index verify`: 0
    assert (settings.data_dir / "scenes" / "00000.jpg").read_bytes() == lost["picture"]
    assert settings.resolved_owner_id == lost["owner"]
    with launch.open_database(settings) as url:
        assert contents(url) == lost["database"]
        assert lost["database"]["videos"][2] != []


def test_a_backup_is_restored_into_a_server_of_ones_own(folder: Path, lost: dict[str, Any]) -> None:
    with running(lambda place: EmbeddedPostgres(place / "postgres", {"fsync": "off"})) as server:
        with connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE administration")
        admin = server.url.replace("/heimdex?", "/administration?")
        with connect(admin, autocommit=True) as connection:
            connection.execute("DROP DATABASE heimdex")
        run(block(OWN_SERVER), folder, ADMIN_URL=admin, NEW_URL=server.url, HEIMDEX_DATA_DIR=folder / "data")
        assert contents(server.url) == lost["database"]
        with connect(server.url.replace("://postgres@", f"://{DatabaseRole.READER}@")) as connection:
            assert len(connection.execute("SELECT * FROM videos").fetchall()) == 1
