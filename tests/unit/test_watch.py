"""Progress: how long it may still take, and what is shown of videos with strange names."""

import io
from dataclasses import replace
from uuid import UUID

import pytest
from rich.console import Console

from cluster.cli.watch import _left_text, _verdict, _view, _where, estimate_left_s
from cluster.contracts.stages import REQUIRES
from cluster.store.videos.progress import Standing

STAGES = len(REQUIRES)


def standing(status: str, duration_s: float | None = None, done: int = 0, name: str = "a.mp4") -> Standing:
    return Standing(UUID(int=1), name, status, "metadata", duration_s, "why", ["metadata"], done)


def test_nothing_is_guessed_before_the_first_video_is_settled() -> None:
    assert estimate_left_s([], 10.0) is None
    assert estimate_left_s([standing("PROCESSING", 60.0, done=5), standing("PENDING")], 10.0) is None


def test_work_is_counted_in_seconds_of_video() -> None:
    standings = [standing("READY", 100.0), standing("PENDING", 300.0)]
    assert estimate_left_s(standings, 10.0) == pytest.approx(30.0)


def test_a_failed_video_is_done_too() -> None:
    assert estimate_left_s([standing("FAILED", 100.0), standing("PENDING", 100.0)], 10.0) == pytest.approx(10.0)


def test_video_of_unknown_duration_counts_as_the_mean() -> None:
    standings = [standing("READY", 100.0), standing("READY", 300.0), standing("PENDING")]
    assert estimate_left_s(standings, 8.0) == pytest.approx(4.0)
    assert estimate_left_s([standing("FAILED"), standing("PENDING"), standing("PENDING")], 3.0) == pytest.approx(6.0)


def test_a_video_on_its_way_is_done_by_the_share_of_its_stages() -> None:
    standings = [standing("READY", 70.0), standing("PROCESSING", 70.0, done=STAGES - 1)]
    assert estimate_left_s(standings, 13.0) == pytest.approx(13.0 * 10 / 130)


def test_nothing_is_left_when_all_are_settled() -> None:
    assert estimate_left_s([standing("READY", 10.0), standing("FAILED")], 5.0) == 0.0
    assert _left_text([standing("READY", 10.0)], 5.0) == ""


@pytest.mark.parametrize(
    ("elapsed_s", "text"),
    [
        (5.0, ", about 5 s left"),
        (59.6, ", about 1 min 0 s left"),
        (125.0, ", about 2 min 5 s left"),
        (7300.0, ", about 2 h 1 min left"),
    ],
)
def test_what_is_left_is_said_in_the_units_of_people(elapsed_s: float, text: str) -> None:
    assert _left_text([standing("READY", 10.0), standing("PENDING", 10.0)], elapsed_s) == text


def test_watch_lines_report_results_and_remaining_videos() -> None:
    assert _verdict(standing("READY")) == "READY   a.mp4"
    assert _verdict(standing("FAILED")) == "FAILED  a.mp4: metadata: why"
    moving = [standing("PROCESSING", name=f"{n}.mp4") for n in range(6)]
    shown = "0.mp4 (metadata), 1.mp4 (metadata), 2.mp4 (metadata), 3.mp4 (metadata) and 2 more"
    assert _where([*moving, standing("PENDING")]) == f"on the way: {shown}; waiting: 1"
    assert _where([standing("READY")]) == "on the way: none; waiting: 0"


@pytest.mark.parametrize("name", ["clip [hd].mp4", "[/].mp4", "[red]clip[/red].mp4", "a\\[b].mp4"])
def test_a_name_is_shown_as_it_is_whatever_brackets_it_has(name: str) -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(_view("", [standing("PROCESSING", name=name)]))  # type: ignore[arg-type]
    assert isinstance(console.file, io.StringIO)
    assert name in console.file.getvalue()


def test_view_says_queue_wait_and_run_apart() -> None:
    moving = replace(standing("PROCESSING"), queue_ms=61_000.0, wait_ms=400.0, run_ms=1900.0)
    console = Console(file=io.StringIO(), width=120)
    console.print(_view("", [moving, replace(standing("PENDING"), queue_ms=65_000.0)]))  # type: ignore[arg-type]
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "queue 61.0 s, wait 0.4 s, run 1.9 s" in shown
    assert "1 waiting" in shown
    assert "in the queue for up to 1 min 5 s" in shown
