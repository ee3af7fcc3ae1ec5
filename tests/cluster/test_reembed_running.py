"""Other models for a cluster that is up: what serves and what embeds follows automatically, without a restart."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.contracts.search import Retriever
from cluster.demo import clips
from cluster.models.vision import load_vision_model
from cluster.store.postgres.connections import Pool
from tests.support.command_line import CommandLine
from tests.support.made_models import vision_model_of
from tests.support.stored_scenes import bundled_models
from tests.support.stored_vectors import stored_vectors


@pytest.fixture(scope="module")
def other(cluster_folder: Path) -> Path:
    return vision_model_of(cluster_folder / "other-vision", 768)


def vectors(pool: Pool) -> dict[str, int]:
    """Number of scenes that have a vector, by model."""
    with pool.connection() as connection:
        rows = connection.execute("SELECT model FROM scene_vector_tables WHERE space = 'picture'").fetchall()
    return {row["model"]: len(stored_vectors(pool, Retriever.PICTURE, row["model"])) for row in rows}


@pytest.mark.long
def test_a_cluster_that_is_up_changes_over_and_back(
    heimdex: CommandLine,
    cluster_state: dict[str, Any],
    cluster_pool: Pool,
    http: httpx.Client,
    demo_results: list[dict[str, Any]],
    other: Path,
) -> None:
    old, new = bundled_models().vision.key, load_vision_model(str(other), None, "cpu", 1).key
    filled = heimdex.run("reembed")
    assert (filled.returncode, filled.stdout) == (0, "0 scenes were embedded\n")
    before = vectors(cluster_pool)
    assert list(before) == [old]

    folder = Path(heimdex.folder) / "reembed-job"
    folder.mkdir()
    done = heimdex.submit_job(
        cluster_state["dashboard_url"], folder, "python", "-m", "cluster.cli.reembed_command", "--vision", str(other)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{before[old]} scenes were embedded" in done.stdout
    assert f"searches are by picture {new} from now on" in done.stdout
    assert "Traceback" not in done.stdout

    # The cluster's settings still say the old model.
    answer = http.get("/v1/search", params={"q": "a red circle", "by": "picture"})
    assert (answer.status_code, len(answer.json()["items"])) == (200, 10)
    (result,) = heimdex.json("process", str(clips()[0]), "--again")
    assert result["status"] == "READY"
    assert vectors(cluster_pool) == {old: before[old], new: before[old] + result["scenes"]}

    back = heimdex.run("reembed", "--rollback")
    assert back.stdout.splitlines() == [
        f"searches are by picture {old} again", f"{result['scenes']} scenes were embedded"
    ]  # fmt: skip
    dropped = heimdex.run("reembed", "--drop-old")
    assert dropped.stdout == f"{before[old] + result['scenes']} old vectors were dropped\n"
    assert vectors(cluster_pool) == {old: before[old] + result["scenes"]}
    assert http.get("/v1/search", params={"q": "a red circle", "by": "picture"}).status_code == 200
    refused = heimdex.run("reembed", "--rollback")
    assert (refused.returncode, refused.stderr[:36]) == (2, "error: there are no previous models:")
