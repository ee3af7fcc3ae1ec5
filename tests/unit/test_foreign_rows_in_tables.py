"""Tables of commands over rows that another system wrote: nothing in them is taken for Rich's markup."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from rich.console import Group
from rich.progress import Progress

from cluster.cli import queue_commands, report, status, watch
from cluster.cli.terminal import result_console
from cluster.store.queue.submissions import QuarantinedVideo
from cluster.store.videos.progress import Standing

ID = UUID(int=1)
FOREIGN = ["[/x]", "[bold red]odd[/]", "[link=//a.b]odd"]
"""Unbalanced, which Rich refuses; obeyed; a link."""


def standing_of(text: str, **others: Any) -> dict[str, Any]:
    times = {"queue_ms": 1.0, "wait_ms": 1.0, "run_ms": 1.0, "done_stages": 0}
    texts = dict.fromkeys(("filename", "place", "processing_stage", "error_message"), text)
    return {"id": ID, "stages": [], **times, **texts, **others}


@pytest.mark.parametrize("text", FOREIGN)
def test_quarantine_shows_a_foreign_row_as_it_is(capsys: pytest.CaptureFixture[str], text: str) -> None:
    video = QuarantinedVideo(ID, ID, text, text, text, text, text, 1, 0, datetime.now(UTC))
    queue_commands._show([video], 1)
    shown = capsys.readouterr().out
    assert shown.count(text) == 5  # its name, stage, both parts of the reason, and its source


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("text", FOREIGN)
def test_status_shows_a_foreign_row_as_it_is(capsys: pytest.CaptureFixture[str], text: str, everything: bool) -> None:
    worker = dict.fromkeys(("worker", "kind", "state", "node", "device", "model", "trouble"), text)
    moving = standing_of(text, stages=[text], warnings=[{"code": "odd", "message": text}])
    current = {
        **status.empty_status(),
        "backlog": {
            "videos": 1,
            "videos_per_hour": None,
            "left_s": None,
            "oldest_s": 1.0,
            "oldest": standing_of(text, status="PROCESSING"),
        },
        "stages": [{"name": text, "in_flight": 1, "completed": 0, "failed": 0, "wait_ms": None, "run_ms": None}],
        "in_flight": [moving, standing_of(text, warnings=[])],
        "waiting": [standing_of(text)],
        "workers": [{**worker, "busy_share": 0.5, "peak_memory_bytes": 1}],
    }
    console = result_console()
    console.width = 1000
    console.print(status.status_view(current, everything=everything))
    # Trouble 1, oldest 2, stage 1, in flight 4 and a warning 2, waiting 2, worker 4: of its name what follows a slash.
    assert capsys.readouterr().out.count(text) == 16


@pytest.mark.parametrize("text", FOREIGN)
def test_watching_shows_a_foreign_row_as_it_is(capsys: pytest.CaptureFixture[str], text: str) -> None:
    moving = Standing(ID, text, "PROCESSING", text, None, text, [text], 0)
    waiting = Standing(ID, text, "PENDING", text, None, text, [], 0)
    view = watch._view(Progress(), [moving, waiting])
    assert isinstance(view, Group)
    result_console().print(view)
    assert capsys.readouterr().out.count(text) == 4


@pytest.mark.parametrize("text", FOREIGN)
def test_summary_shows_a_foreign_status_as_it_is(capsys: pytest.CaptureFixture[str], text: str) -> None:
    numbers = ("scenes", "words", "duration_s", "queue_ms", "wait_ms", "run_ms", "processing_ms", "rtf")
    result = {**dict.fromkeys(numbers, 1), "id": ID, "filename": text, "uri": text, "status": text, "stages": []}
    console = result_console()
    console.width = 1000
    console.print(report.video_table([result]))
    assert capsys.readouterr().out.count(text) == 2
