"""``heimdex search`` asks the cluster that is up, and finds the same without one."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cluster.cli.main import app
from cluster.contracts.search import Retriever
from cluster.demo import queries
from cluster.store.postgres.connections import Pool
from tests.support.command_line import CommandLine, make_environment

NO_MODELS = {"HEIMDEX_CLIP_MODEL": "/no/such/model", "HEIMDEX_TEXT_MODEL": "/no/such/model"}
SPOKEN = next(query for query in queries() if query.kind == "spoken").text
VISUAL = next(query for query in queries() if query.kind == "visual").text
NONSENSE = "flurble zint quax"


@pytest.fixture
def owner_id(cluster_pool: Pool, demo_results: list[dict[str, Any]]) -> str:
    with cluster_pool.connection() as connection:
        row = connection.execute("SELECT owner_id FROM videos WHERE id = %s", (demo_results[0]["id"],)).fetchone()
    assert row is not None
    return str(row["owner_id"])


@pytest.fixture
def asking(heimdex: CommandLine, demo_results: list[dict[str, Any]]) -> CommandLine:
    """A command that can load no models: only the cluster can have answered it."""
    return CommandLine({**heimdex.environment, **NO_MODELS}, heimdex.folder)


@pytest.fixture
def alone(tmp_path: Path, cluster_state: dict[str, Any], owner_id: str) -> CommandLine:
    """A command on the same database, from a data directory without a cluster."""
    settings = {"HEIMDEX_DATABASE_URL": cluster_state["database_url"], "HEIMDEX_OWNER_ID": owner_id}
    return CommandLine(make_environment(tmp_path, **settings), tmp_path)


@pytest.mark.parametrize(
    "question",
    [
        (SPOKEN,),
        (VISUAL, "--limit", "3"),
        ("tide", "--by", "words"),
        (VISUAL, "--by", "meaning,picture", "--since", "2020-01-31"),
        ("tide", "--since", "2120-01-31"),
    ],
    ids=["spoken", "visual", "words", "two-lists", "none"],
)
def test_search_with_and_without_the_cluster_is_the_same(
    asking: CommandLine, alone: CommandLine, question: tuple[str, ...]
) -> None:
    """Of nonsense the order is left to chance: the last bit of a float, which differs between processes."""
    by_cluster = asking.run("search", *question, "--json")
    by_itself = run_here(alone, "search", *question, "--json")
    assert (by_cluster.returncode, by_itself.exit_code) == (0, 0), by_cluster.stderr + by_itself.stderr
    assert json.loads(by_cluster.stdout) == json.loads(by_itself.stdout)
    assert by_cluster.stdout == by_itself.stdout


def test_search_by_picture_is_the_same(asking: CommandLine, alone: CommandLine) -> None:
    picture = Path(asking.json("search", VISUAL)[0]["thumbnail_url"].removeprefix("file://"))
    by_picture = ["search", "--image", str(picture), "--json"]
    by_both = ["search", SPOKEN, "--image", str(picture), "--limit", "4", "--json"]
    for question, by_itself in (
        (by_picture, run_here(alone, *by_picture).stdout),
        (by_both, alone.run(*by_both).stdout),
    ):
        found = json.loads(asking.run(*question).stdout)
        assert found
        assert comparable(found) == comparable(json.loads(by_itself))


def run_here(command_line: CommandLine, *arguments: str) -> Result:
    """A command within this process, where its models are imported once for all tests."""
    return CliRunner().invoke(app, arguments, env=command_line.environment)


def comparable(hits: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The hits without ranks behind 10 and without the score, to which such ranks add less than 0.0001.

    There, two processes order copies of a clip by the last bit of a float.
    """
    ranks = [f"{retriever}_rank" for retriever in Retriever]
    return [
        {
            **hit,
            **{name: "behind" for name in ranks if hit[name] is not None and hit[name] > 10},
            "score": None,
        }
        for hit in hits
    ]


def test_search_by_words_alone_loads_no_model(alone: CommandLine) -> None:
    without = CommandLine({**alone.environment, **NO_MODELS}, alone.folder)
    assert without.json("search", "tide", "--by", "words") == alone.json("search", "tide", "--by", "words") != []
    refused = without.run("search", "tide")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "/no/such/model" in refused.stderr


def test_refused_search_says_the_same(asking: CommandLine, alone: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "none.jpg").write_bytes(b"no picture")
    questions = (["a b " * 20], ["--image", str(tmp_path / "none.jpg")], ["--image", str(tmp_path / "gone.jpg")])
    for question in questions:
        by_cluster, by_itself = asking.run("search", *question), alone.run("search", *question)
        assert (by_cluster.returncode, by_cluster.stderr) == (by_itself.returncode, by_itself.stderr)
        assert by_cluster.returncode == 2


def test_search_says_where_nothing_stands_out(asking: CommandLine) -> None:
    nearest = asking.run("search", NONSENSE)
    assert f'No clear match for "{NONSENSE}": these scenes are only the nearest.' in nearest.stdout
    assert {hit["stands_out"] for hit in asking.json("search", NONSENSE)} == {False}
    found = asking.run("search", SPOKEN)
    assert "No clear match" not in found.stdout
    assert asking.json("search", SPOKEN)[0]["stands_out"]
