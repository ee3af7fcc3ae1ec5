"""Ids are printed whole in every table, however narrow the terminal is: an id that is cut names nothing."""

import io
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from rich.console import RenderableType

from cluster.cli import queue_commands, status
from cluster.cli.terminal import VisibleConsole
from cluster.store.queue.submissions import QuarantinedVideo

LONG = "a name of many words that takes more room than there is.mp4"
IDS = [uuid4() for _ in range(3)]


def printed(table: RenderableType, width: int) -> str:
    text = io.StringIO()
    VisibleConsole(file=text, width=width).print(table)
    return text.getvalue()


def quarantined(video_id: UUID) -> QuarantinedVideo:
    return QuarantinedVideo(
        video_id, UUID(int=7), LONG, LONG, "transcription", "WorkerLost", LONG * 3, 3, 2, datetime.now(UTC)
    )


def standing(video_id: UUID) -> dict[str, Any]:
    texts = dict.fromkeys(("filename", "place", "processing_stage", "error_message"), LONG)
    times = dict.fromkeys(("queue_ms", "wait_ms", "run_ms"), 123456.0)
    return {"id": video_id, "status": "PENDING", "stages": ["transcription", "scene_detection"], "done_stages": 2,
            "warnings": [], **texts, **times}  # fmt: skip


@pytest.mark.parametrize("width", [80, 100, 160])
def test_quarantine_table_has_whole_ids(width: int) -> None:
    text = printed(queue_commands._table([quarantined(video_id) for video_id in IDS], width), width)
    assert all(str(video_id) in text for video_id in IDS), text


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("width", [80, 100, 160])
def test_status_has_whole_ids(width: int, everything: bool) -> None:
    standings = [standing(video_id) for video_id in IDS]
    for part in ("in_flight", "waiting"):
        text = printed(status.status_view({**status.empty_status(), part: standings}, everything=everything), width)
        assert all(str(video_id) in text for video_id in IDS), text
