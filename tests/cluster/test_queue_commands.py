"""``heimdex quarantine``, ``retry`` and ``cancel`` against a cluster that works, and what they refuse."""

import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from cluster.demo import clips
from cluster.store.postgres.connections import Pool
from cluster.store.videos.progress import read_results
from tests.support.command_line import CommandLine, make_environment

PATIENCE_S = 180.0


def settled(pool: Pool, video_id: str) -> dict[str, Any]:
    end_s = time.monotonic() + PATIENCE_S
    while (result := read_results(pool, [UUID(video_id)])[0])["status"] in {"PENDING", "PROCESSING"}:
        assert time.monotonic() < end_s, result
        time.sleep(0.1)
    return result


def test_failed_video_is_listed_with_reason_and_retried(
    heimdex: CommandLine, cluster_pool: Pool, tmp_path: Path
) -> None:
    video = tmp_path / "late.mp4"
    (row,) = heimdex.json("submit", str(video))
    assert settled(cluster_pool, row["id"])["status"] == "FAILED"
    (listed,) = [entry for entry in heimdex.json("quarantine", "--stage", "downloading") if entry["id"] == row["id"]]
    assert (listed["stage"], listed["error_type"], listed["attempts"]) == ("downloading", "InvalidVideo", 1)
    assert listed["error_message"] == f"no such file: {video}"
    shown = heimdex.run("quarantine").stdout
    assert "late.mp4" in shown
    assert "heimdex retry" in shown

    assert row["id"] not in {entry["id"] for entry in heimdex.json("quarantine", "--stage", "indexing")}
    video.write_bytes(clips()[0].read_bytes())
    retried = heimdex.run("retry", row["id"])
    assert (retried.returncode, retried.stdout) == (0, "1 video waits again\n")
    assert settled(cluster_pool, row["id"])["status"] == "READY"
    assert row["id"] not in {entry["id"] for entry in heimdex.json("quarantine")}
    refused = heimdex.run("retry", row["id"])
    assert (refused.returncode, refused.stdout.splitlines()[-1]) == (1, "the others are neither FAILED nor CANCELLED")


def test_a_cancelled_video_is_left_alone_until_it_is_tried_again(heimdex: CommandLine, cluster_pool: Pool) -> None:
    rows = heimdex.json("submit", "--again", *[str(clip) for clip in clips() * 2])
    last = rows[-1]["id"]
    cancelled = heimdex.run("cancel", last)
    assert (cancelled.returncode, cancelled.stdout) == (0, "cancelled 1 video\n")
    assert {settled(cluster_pool, row["id"])["status"] for row in rows[:-1]} == {"READY"}
    result = settled(cluster_pool, last)
    assert (result["status"], result["scenes"]) == ("CANCELLED", 0)
    with cluster_pool.connection() as connection:
        assert connection.execute("SELECT 1 FROM video_leases WHERE video_id = %s", [last]).fetchone() is None
    again = heimdex.run("cancel", last, rows[0]["id"], str(uuid4()))
    assert again.returncode == 1
    assert again.stdout.count("no such video, or it is done already") == 3
    assert heimdex.run("retry", last).returncode == 0
    assert settled(cluster_pool, last)["status"] == "READY"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["retry"], "give either videos, or --failed, --stage, --error-type, --since or --batch"),
        (["retry", str(UUID(int=1)), "--failed"], "give either videos, or --failed"),
        (["retry", "--stage", "cooking"], "'cooking' is not one of"),
        (["cancel", "film.mp4", "--batch", "monday"], "give either videos, or --batch"),
        (["cancel"], "give either videos, or --batch"),
        (["submit", "a.mp4", "--priority", "11"], "should be less than or equal to 10"),
        (["quarantine", "--limit", "0"], "should be greater than or equal to 1"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_does(
    arguments: list[str], sentence: str, cluster_folder: Path
) -> None:
    refused = CommandLine(make_environment(cluster_folder), cluster_folder).run(*arguments)
    assert refused.returncode == 2
    assert sentence in " ".join(refused.stderr.replace("│", " ").split())
