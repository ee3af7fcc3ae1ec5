"""A cluster that runs on an existing database, whose files are behind a storage service that has its troubles."""

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from PIL import Image

from cluster.demo import clips, truth
from cluster.store.postgres.connections import connect
from tests.support.command_line import CommandLine, left_running, make_environment
from tests.support.existing_database import ANNA, BEN, CARA, DORA, clip
from tests.support.storage_service import KEY, StorageService, storage_service
from tests.support.stored_scenes import described

pytestmark = pytest.mark.long

SETTLED_WITHIN_S = 180.0
CLIP = next(path for path in clips() if truth(path).spoken_queries)
PENDING, FAILED = (4, 8, 12, 16, 20), (3, 7)
"""Whose files are stored: Anna's, which wait, and Dora's, which failed elsewhere."""
LATER = 11
"""Dora's too, whose file comes when the others have been taken over."""
PAGE = 20
"""Whose file is a page by the time it is read."""
TROUBLES = {
    4: ["", "busy", "busy", "busy"],
    8: ["", "cut", "cut"],
    12: ["", "gzip"],
    16: ["", "busy", "chunked"],
    PAGE: ["", "page"],
    7: ["", "cut", "busy"],
}
"""The first request of each is the question whether it can be read; of the first video, two are."""


def path_of(number: int) -> str:
    """The ``storage_path`` of the video with this number."""
    return f"{(ANNA, BEN, CARA, DORA)[number % 4]}/clip-{number}.mp4"


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """The files in the storage: a clip for each of the videos, a picture for each READY one's first scene."""
    folder = tmp_path / "stored"
    for number in (*PENDING, *FAILED):
        store(folder, path_of(number), CLIP.read_bytes())
    store(folder, "thumbs/first.png", picture_of(CLIP))
    return folder


@pytest.fixture
def service(stored: Path) -> Iterator[StorageService]:
    troubles = {path_of(number): befalls for number, befalls in TROUBLES.items()}
    with storage_service(stored, troubles) as service:
        yield service


@pytest.fixture
def heimdex(existing_url: str, service: StorageService, cluster_folder: Path) -> Iterator[CommandLine]:
    """Commands with the settings of an operator who takes over the existing database."""
    folder = cluster_folder / "existing"
    folder.mkdir()
    settings = {
        "HEIMDEX_DATABASE_URL": existing_url,
        "HEIMDEX_OWNER_ID": str(CARA),
        "HEIMDEX_STORAGE_ROOT": service.root,
        "HEIMDEX_STORAGE_KEY": KEY,
    }
    yield CommandLine(make_environment(folder, **settings), folder)
    assert left_running(folder) == []


def store(folder: Path, path: str, content: bytes) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content)


def picture_of(path: Path) -> bytes:
    """A picture out of the middle of its first scene, as PNG."""
    encoded = io.BytesIO()
    Image.fromarray(described(path)[0].scenes[0].key_frame).save(encoded, "PNG")
    return encoded.getvalue()


def rows_of(url: str, numbers: tuple[int, ...]) -> dict[int, dict[str, Any]]:
    """The rows of ``videos`` with how many scenes each has, by number."""
    statement = """
        SELECT v.*, v.status::text AS status, (SELECT count(*) FROM video_scenes AS s WHERE s.video_id = v.id) AS scenes
        FROM videos AS v WHERE v.id = ANY (%s)"""
    with connect(url) as connection:
        found = {row["id"]: row for row in connection.execute(statement, ([clip(number) for number in numbers],))}
    return {number: found[clip(number)] for number in numbers}


def settled(url: str, numbers: tuple[int, ...]) -> dict[int, dict[str, Any]]:
    """The rows when none of the videos waits or is on its way any more."""
    end_s = time.monotonic() + SETTLED_WITHIN_S
    while {row["status"] for row in rows_of(url, numbers).values()} & {"PENDING", "PROCESSING"}:
        assert time.monotonic() < end_s, rows_of(url, numbers)
        time.sleep(0.5)
    return rows_of(url, numbers)


def assert_ready(row: dict[str, Any]) -> None:
    assert (row["status"], row["error_message"], row["scenes"]) == ("READY", None, len(truth(CLIP).scenes)), row


@pytest.mark.timeout(600)
def test_leftover_video_is_processed_whatever_its_storage_does(
    heimdex: CommandLine, service: StorageService, existing_url: str, stored: Path
) -> None:
    with connect(existing_url) as connection:
        connection.execute("UPDATE video_scenes SET thumbnail_url = 'thumbs/first.png' WHERE index = 0")
        connection.execute("UPDATE video_scenes SET thumbnail_url = NULL WHERE index > 0")
    adopted = heimdex.run("adopt")
    assert adopted.returncode == 0, adopted.stdout + adopted.stderr
    assert "12 thumbnails copied as key frames" in adopted.stdout
    assert "24 scenes have no picture that can be embedded" in adopted.stdout
    picture = stored / "thumbs" / "first.png"
    (hit, *_) = heimdex.json("search", "--image", str(picture), "--by", "picture", "--limit", "1")
    assert hit["scene_index"] == 0
    assert hit["thumbnail_url"] == "thumbs/first.png"

    taken = heimdex.json("adopt", "--take-over", "--failed")
    assert taken["queued"] == len(PENDING) + len(FAILED)
    started = heimdex.run("up")
    assert started.returncode == 0, started.stderr
    try:
        rows = settled(existing_url, (*PENDING, *FAILED))
        for number in {*PENDING, *FAILED} - {PAGE}:
            assert_ready(rows[number])
        assert (rows[PAGE]["status"], rows[PAGE]["processing_stage"]) == ("FAILED", "downloading")
        assert "an HTML page" in rows[PAGE]["error_message"]
        assert service.resumed >= {path_of(8), path_of(7)}
        assert_no_attempt_was_used_up(existing_url)
        retried_by_its_owner(heimdex, existing_url, stored)
        lost_vectors_are_made_again(heimdex, existing_url)
    finally:
        heimdex.run("down")


def assert_no_attempt_was_used_up(url: str) -> None:
    """Waiting for a storage that is busy does not count as a failure."""
    with connect(url) as connection:
        rows = connection.execute(
            "SELECT video_id, failures, postponed_s FROM video_processing WHERE video_id = ANY (%s)",
            ([clip(number) for number in (4, 7, 16)],),
        ).fetchall()
    assert [row["failures"] for row in rows] == [0, 0, 0]
    assert all(row["postponed_s"] >= 1 for row in rows if row["video_id"] in {clip(4), clip(16)})


def retried_by_its_owner(heimdex: CommandLine, url: str, stored: Path) -> None:
    """A video that failed elsewhere, and was not taken over, is tried when its owner asks for it."""
    store(stored, path_of(LATER), CLIP.read_bytes())
    with api(heimdex, DORA) as client:
        answer = client.post(f"/v1/videos/{clip(LATER)}/retry")
        assert answer.status_code == 200, answer.text
        assert answer.json()["status"] in {"PENDING", "PROCESSING"}  # an idle scheduler claims it at once
    assert_ready(settled(url, (LATER,))[LATER])


def lost_vectors_are_made_again(heimdex: CommandLine, url: str) -> None:
    """The button of the existing admin page: a job of the cluster's own, whose progress can be read."""
    with connect(url) as connection:
        (table,) = connection.execute("SELECT relation FROM scene_vector_tables WHERE space = 'meaning'").fetchall()
        lost = connection.execute(f"DELETE FROM {table['relation']} WHERE scene_id IN "
                                  f"(SELECT scene_id FROM {table['relation']} LIMIT 5)").rowcount  # fmt: skip
    assert lost == 5
    with api(heimdex, CARA) as client:
        asked = client.post("/v1/admin/reprocess-embeddings")
        assert asked.status_code == 202, asked.text
        assert client.post("/v1/admin/reprocess-embeddings").status_code == 409
        job = f"/v1/admin/reprocess-embeddings/{asked.json()['id']}"
        end_s = time.monotonic() + SETTLED_WITHIN_S
        while (state := client.get(job).json())["state"] in {"requested", "running"}:
            assert time.monotonic() < end_s, state
            time.sleep(0.5)
    assert (state["state"], state["scenes_embedded"], state["scenes_failed"], state["scenes_lacking"]) == (
        "completed", lost, 0, 0
    ), state["error_message"]  # fmt: skip
    verified = heimdex.run("index", "verify")
    assert (verified.returncode, " 0 differences" in verified.stdout) == (0, True), verified.stdout


def api(heimdex: CommandLine, user: UUID) -> httpx.Client:
    """The cluster's HTTP with a token of this user."""
    state = json.loads((Path(heimdex.environment["HEIMDEX_DATA_DIR"]) / "cluster.json").read_text())
    token = heimdex.run("token", "--sub", str(user)).stdout.strip()
    return httpx.Client(base_url=state["http_url"], headers={"Authorization": f"Bearer {token}"}, timeout=30.0)


def test_an_adopted_database_is_followed_by_opensearch(
    existing_url: str, opensearch_url: str, cluster_folder: Path
) -> None:
    folder = cluster_folder / "existing-opensearch"
    folder.mkdir()
    settings = {
        "HEIMDEX_DATABASE_URL": existing_url,
        "HEIMDEX_OWNER_ID": str(CARA),
        "HEIMDEX_OPENSEARCH_URL": opensearch_url,
        "HEIMDEX_OPENSEARCH_PREFIX": "existing",
    }
    heimdex = CommandLine(make_environment(folder, **settings), folder)
    adopted = heimdex.run("adopt")
    assert adopted.returncode == 0, adopted.stdout + adopted.stderr
    assert "36 scenes embedded" in adopted.stdout
    verified = heimdex.run("index", "verify")
    assert (verified.returncode, " 0 differences" in verified.stdout) == (0, True), verified.stdout + verified.stderr
    hits = heimdex.json("search", "harbour", "--by", "words", "--limit", "100")
    assert len(hits) == 36
    again = heimdex.run("adopt")
    assert (again.returncode, "nothing was changed" in again.stdout) == (0, True), again.stdout + again.stderr
    assert left_running(folder) == []
