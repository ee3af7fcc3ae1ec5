"""The commands' output at the end: tables whose sums are right, on the stream where each belongs."""

import io
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from cluster.cli.report import print_bad_rows, print_failures, print_summary, print_warnings, stage_table, video_table
from cluster.files.manifest import BadRow


def result(name: str = "a.mp4", status: str = "READY", **changed: Any) -> dict[str, Any]:
    return {
        "filename": name,
        "uri": f"/videos/{name}",
        "id": "00000000-0000-0000-0000-000000000001",
        "status": status,
        "processing_stage": "completed" if status == "READY" else "metadata",
        "error_message": None if status == "READY" else "no pictures",
        "duration_s": 60.0,
        "queue_ms": 500.0,
        "wait_ms": 10_500.0,
        "run_ms": 1500.0,
        "processing_ms": 12_000,
        "rtf": 0.2,
        "scenes": 7,
        "words": 80,
        "warnings": [],
        "stages": [stage("downloading", 100.0, 400.0), stage("metadata", 0.0, 100.0)],
        **changed,
    }


def stage(name: str, wait_ms: float | None, run_ms: float | None) -> dict[str, Any]:
    return {"name": name, "wait_ms": wait_ms, "run_ms": run_ms, "outcome": "completed"}


def cells(table: Table) -> list[list[str]]:
    return [list(row) for row in zip(*(column.cells for column in table.columns), strict=True)]  # type: ignore[arg-type]


def printed(table: Table) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_video_is_a_row_with_its_figures() -> None:
    row = ["a.mp4", "[green]READY[/]", "7", "80", "60.0", "0.50", "10.50", "1.50", "12.00", "0.20"]
    assert cells(video_table([result()])) == [row]


def test_what_is_not_known_is_a_dash_and_not_a_nought() -> None:
    names = ("duration_s", "queue_ms", "wait_ms", "run_ms", "processing_ms", "rtf")
    unknown = result(status="FAILED") | dict.fromkeys(names)
    assert cells(video_table([unknown]))[0][1:] == ["[red]FAILED[/]", "7", "80", *["-"] * len(names)]


@pytest.mark.parametrize("name", ["clip [hd].mp4", "[/].mp4", "[red]clip[/red].mp4"])
def test_a_name_is_shown_as_it_is_whatever_brackets_it_has(name: str) -> None:
    assert name in printed(video_table([result(name)]))


def test_wait_and_run_of_stages_are_summed_in_stage_order() -> None:
    other = result(stages=[stage("metadata", 300.0, 500.0), stage("downloading", 0.0, 1000.0)])
    assert cells(stage_table([result(), other])) == [
        ["downloading", "2", "0.10", "1.40", "0.70", "70 %"],
        ["metadata", "2", "0.30", "0.60", "0.30", "30 %"],
    ]


def test_a_stage_that_still_runs_or_never_ran_has_no_row() -> None:
    assert cells(stage_table([result(stages=[stage("metadata", None, None)]), result(stages=[])])) == []


def test_summary_says_queue_wait_and_run_apart(capsys: pytest.CaptureFixture[str]) -> None:
    other = result(queue_ms=1500.0, wait_ms=500.0, run_ms=2500.0)
    unknown = result(queue_ms=None, wait_ms=None, run_ms=None)
    print_summary([result(), other, unknown])
    assert "Mean of a video: queue 1.00 s, wait between stages 5.50 s, run 2.00 s\n" in capsys.readouterr().out


def test_the_summary_counts_what_is_ready(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary([result(duration_s=1800.0), result("b.mp4", "FAILED")])
    captured = capsys.readouterr()
    assert "1 of 2 videos READY (0.500 h of video)" in captured.out
    assert "b.mp4" in captured.out
    assert captured.err == ""


def test_no_videos_are_a_summary_too(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary([])
    assert capsys.readouterr().out == "0 of 0 videos READY (0.000 h of video)\n"


def test_failures_and_bad_rows_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    print_failures([result(), result("b.mp4", "FAILED")])
    print_bad_rows("list.csv", [BadRow(3, "uri: is missing"), BadRow(9, "not UTF-8 text")])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "FAILED  b.mp4: metadata: no pictures",
        "list.csv:3: uri: is missing",
        "list.csv:9: not UTF-8 text",
    ]


def test_names_that_repeat_are_replaced_by_uri(capsys: pytest.CaptureFixture[str]) -> None:
    same = [
        result("a.mp4", "FAILED", uri="https://host/1/a.mp4?X-Amz-Signature=secret#t"),
        result("a.mp4", "FAILED", uri="https://me:secret@host/2/a.mp4"),
        result("a.mp4", uri="/videos/[x]/a.mp4"),
        result("b.mp4", "FAILED"),
    ]
    print_failures(same)
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "FAILED  https://host/1/a.mp4: metadata: no pictures",
        "FAILED  https://host/2/a.mp4: metadata: no pictures",
        "FAILED  b.mp4: metadata: no pictures",
    ]
    names = [row[0] for row in cells(video_table(same))]
    assert names == ["https://host/1/a.mp4", "https://host/2/a.mp4", "/videos/\\[x]/a.mp4", "b.mp4"]


def test_a_bad_row_is_named_as_the_sheet_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_bad_rows("list.csv", [BadRow(4, "uri: is missing", sheet_row=3)])
    assert capsys.readouterr().err == "list.csv:4: uri: is missing (row 3 of the sheet)\n"
    print_bad_rows("list.csv", [BadRow(4, "language: 'x' is wrong", uri="https://host/a.mp4?signature=secret")])
    assert capsys.readouterr().err == "list.csv:4: language: 'x' is wrong: https://host/a.mp4\n"


def test_warnings_are_printed_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    warnings = [{"code": "part_left_out", "message": "the part from byte 9 on is left out"}]
    print_warnings([result("a.ts", warnings=warnings), result("b.ts")])
    assert capsys.readouterr().err == "WARNING  a.ts: the part from byte 9 on is left out\n"
