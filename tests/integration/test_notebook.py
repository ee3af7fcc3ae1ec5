"""The capacity notebook, executed on a real Postgres: its figures are those of the rows, many or none."""

import base64
import json
import math
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config

from cluster.contracts.stages import Stage
from cluster.store.postgres.connections import Pool
from tests.support.cluster_history import INSERT_VIDEO, LIFETIME_SHARES, History, Run, Video

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "capacity_analysis.ipynb"
READ_BACK = """
import json
frames = {
    "stage_times": stage_times,
    "failures": failures,
    "flow": flow.set_axis(flow.index.astype(str)),
    "cost": cost,
    "estimate": estimate,
    "workers": workers.set_index("worker")[["busy_share", "busy_share_of_life"]],
}
part_s = (busy.index[1] - busy.index[0]).total_seconds() if len(busy) else 0.0
series = {"rtf": rtf.rename(str), "lost": lost, "left_open": left_open, "busy_s": busy.sum() * part_s}
print(json.dumps({
    **{name: json.loads(f.to_json(orient="index", double_precision=15)) for name, f in frames.items()},
    **{name: values.to_dict() for name, values in series.items()},
}))
"""
"""A cell that only the test adds: what the notebook computed, as JSON."""

SAMPLE_S = 3
"""Time for which the tests' notebook watches the workers."""

Execute = Callable[[], nbformat.NotebookNode]


@pytest.fixture
def execute(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Execute:
    monkeypatch.setenv("HEIMDEX_DATABASE_URL", database_url)
    return lambda: _executed(tmp_path, monkeypatch)


def _executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nbformat.NotebookNode:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("HEIMDEX_DATA_DIR", str(tmp_path / "data"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    parameters = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert "SAMPLE_S = 20 " in parameters.source
    parameters.source = parameters.source.replace("SAMPLE_S = 20 ", f"SAMPLE_S = {SAMPLE_S} ")
    notebook.cells.append(nbformat.v4.new_code_cell(READ_BACK))
    with tempfile.TemporaryDirectory(prefix="heimdex-kernel-") as sockets:  # a short path, as sockets need
        client = NotebookClient(
            notebook,
            timeout=240,
            resources={"metadata": {"path": str(ROOT)}},
            config=Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"}),
        )
        client.execute()
    return notebook


@pytest.fixture
def history(pool: Pool) -> History:
    made = History()
    made.insert(pool)
    return made


SHARES = [0.9, 0.0, 0.4]
"""Parts of the time that is watched in which the workers are busy."""


@contextmanager
def announced(pool: Pool) -> Iterator[None]:
    """Within the block the workers are announced, busy as ``SHARES`` says, as a scheduler does."""
    over = threading.Event()

    def announce() -> None:
        statement = """
        WITH began AS MATERIALIZED (SELECT seen_at FROM cluster_workers ORDER BY worker LIMIT 1)
        UPDATE cluster_workers SET busy_s = busy_s + share * extract(epoch FROM now() - began.seen_at), seen_at = now()
        FROM began, unnest(%s::float8[]) WITH ORDINALITY AS of_worker (share, number)
        WHERE worker = 'scheduler-1/media-' || number
        """
        while not over.wait(0.1):
            with pool.connection() as connection:
                connection.execute(statement, (SHARES,))

    thread = threading.Thread(target=announce)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_the_figures_of_the_notebook_are_those_of_the_rows(execute: Execute, history: History, pool: Pool) -> None:
    with announced(pool):
        notebook = execute()
    figures = _read_back(notebook)
    assert _pictures(notebook) == 7
    assert _complaints(notebook) == []
    _check_stage_times(figures["stage_times"], history)
    _check_failures(figures["failures"], history)
    _check_flow(figures["flow"], history)
    _check_rtf(figures["rtf"], history)
    _check_capacity(figures["cost"], figures["estimate"], history)
    lost = [run for run in history.runs if run.outcome == "lost"]
    assert figures["lost"] == Counter(run.stage for run in lost if run.error_type is None)
    assert figures["left_open"] == Counter(run.error_type for run in lost if run.error_type) != {}
    workers = figures["workers"].values()
    assert [row["busy_share"] for row in workers] == pytest.approx(SHARES, abs=0.01)
    assert [row["busy_share_of_life"] for row in workers] == pytest.approx(LIFETIME_SHARES, abs=0.01)
    _check_busy(figures["busy_s"], history)


def _check_stage_times(found: Any, history: History) -> None:
    by_stage: dict[str, list[Run]] = defaultdict(list)
    for run in history.runs:
        if run.outcome == "completed":
            by_stage[run.stage].append(run)
    assert list(found) == [stage.value for stage in Stage]
    for stage, runs in by_stage.items():
        times = sorted(run.run_s for run in runs)
        assert found[stage]["runs"] == len(runs)
        assert found[stage]["run_s"] == pytest.approx(math.fsum(times) / len(runs))
        assert found[stage]["wait_s"] == pytest.approx(math.fsum(run.wait_s for run in runs) / len(runs))
        assert found[stage]["run_s_p95"] == pytest.approx(_percentile(times, 0.95))


def _check_failures(found: Any, history: History) -> None:
    failed = [video for video in history.videos if video.status == "FAILED"]
    expected = Counter((video.stage or "unknown", video.error_type or "unknown") for video in failed)
    counts = {(stage, error): count for stage, row in found.items() for error, count in row.items() if count}
    assert counts == expected
    totals = [sum(row.values()) for row in found.values()]
    assert totals == sorted(totals, reverse=True)


def _check_flow(found: Any, history: History) -> None:
    since = history.now - timedelta(days=30)
    arrived = Counter(_day(video.created_at) for video in history.videos if video.created_at >= since)
    done = [(video, video.done_at) for video in history.videos if video.done_at and video.done_at >= since]
    for status, column in (("READY", "ready"), ("FAILED", "failed")):
        expected = Counter(_day(done_at) for video, done_at in done if video.status == status)
        assert {day: row[column] for day, row in found.items() if row[column]} == expected
    assert {day: row["arrived"] for day, row in found.items() if row["arrived"]} == arrived
    last = found[max(found)]
    assert last["unfinished"] == sum(1 for video in history.videos if video.done_at is None) == 4
    for day, row in found.items():
        end = min(datetime.fromisoformat(day) + timedelta(days=1), history.now)
        present = [video for video in history.videos if video.created_at <= end]
        assert row["unfinished"] == sum(1 for v in present if v.done_at is None or v.done_at > end)


def _check_rtf(found: Any, history: History) -> None:
    values = sorted(
        video.processing_ms / 1000 / video.duration_s
        for video in history.videos
        if video.status == "READY" and video.processing_ms and video.created_at > history.now - timedelta(days=30)
    )
    for share in (0.5, 0.95, 0.99):
        assert found[str(share)] == pytest.approx(_percentile(values, share))


def _check_capacity(cost: Any, estimate: Any, history: History) -> None:
    paid = [run for run in history.runs if run.video.status == "READY"]
    video_s = math.fsum({run.video.id: run.video.duration_s for run in paid}.values())
    spent: dict[tuple[str, str], float] = defaultdict(float)
    for run in paid:
        spent[run.stage, "GPU" if run.device == "cuda:0" else "CPU"] += run.resource_s
    for (stage, kind), seconds in spent.items():
        assert cost[stage][kind] == pytest.approx(seconds / video_s)
    per_kind = {kind: math.fsum(s for (_, k), s in spent.items() if k == kind) / video_s for kind in ("CPU", "GPU")}
    for cpus in (4, 16, 64):
        for gpus in (1, 2, 4, 8):
            bound = min(cpus / per_kind["CPU"], gpus / per_kind["GPU"])
            assert estimate[str(cpus)][str(gpus)] == pytest.approx(bound)


def _check_busy(found: Any, history: History) -> None:
    """Busy workers, summed over time, are the seconds of work in the last 24 hours of work."""
    worked = [run for run in history.runs if run.run_s > 0]
    begin = max(run.finished_at for run in worked) - timedelta(hours=24)
    for stage in Stage:
        finishes = [(run.finished_at - begin, run.run_s) for run in worked if run.stage == stage]
        expected_s = math.fsum(max(0.0, min(run_s, after.total_seconds())) for after, run_s in finishes)
        assert found.get(stage, 0.0) == pytest.approx(expected_s, rel=1e-5)


@pytest.mark.parametrize(
    ("age", "bucket"),
    [
        (timedelta(minutes=40), timedelta(minutes=1)),
        (timedelta(hours=3), timedelta(minutes=5)),
        (timedelta(hours=14), timedelta(minutes=15)),
        (timedelta(hours=60), timedelta(hours=1)),
        (timedelta(days=4), timedelta(days=1)),
    ],
    ids=["minute", "five", "fifteen", "hour", "day"],
)
def test_first_hours_are_shown_in_short_buckets(
    execute: Execute, pool: Pool, age: timedelta, bucket: timedelta
) -> None:
    """A cluster's first day is no single bar."""
    now = datetime.now(UTC)
    arrivals = [now - age + age * part / 10 for part in range(10)]
    with pool.connection() as connection, connection.cursor() as cursor:
        cursor.executemany(
            INSERT_VIDEO,
            [vars(Video(uuid4(), "READY", at, at, 60.0, at + timedelta(seconds=30), 30_000)) for at in arrivals],
        )
    flow = _read_back(execute())["flow"]
    starts = [datetime.fromisoformat(start) for start in flow]
    assert {after - before for before, after in pairwise(starts)} == {bucket}
    assert len(starts) == (now - starts[0]) // bucket + 1 <= 73
    assert sum(row["arrived"] for row in flow.values()) == len(arrivals)
    assert {
        start: row["arrived"] for start, row in zip(starts, flow.values(), strict=True) if row["arrived"]
    } == Counter(starts[(at - starts[0]) // bucket] for at in arrivals)


def test_an_empty_database_is_said_to_be_empty_and_nothing_fails(execute: Execute) -> None:
    notebook = execute()
    assert _pictures(notebook) == 0
    assert _complaints(notebook) == []
    said = "".join(output["text"] for output in _outputs(notebook) if output["output_type"] == "stream")
    assert "0 videos READY and 0 FAILED" in said
    assert "No completed stage runs in the last 30 days." in said
    assert "No cluster is up" in said
    assert _read_back(notebook)["estimate"] == {}


def test_without_a_database_the_notebook_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HEIMDEX_DATABASE_URL", raising=False)
    with pytest.raises(CellExecutionError, match="set HEIMDEX_DATABASE_URL, or start the embedded one"):
        _executed(tmp_path, monkeypatch)


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert cells
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


def _outputs(notebook: nbformat.NotebookNode) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def _pictures(notebook: nbformat.NotebookNode) -> int:
    pictures = [output.data["image/png"] for output in _outputs(notebook) if "image/png" in output.get("data", {})]
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    return len(pictures)


def _complaints(notebook: nbformat.NotebookNode) -> list[str]:
    """The kernel's output on standard error: warnings."""
    return [output.text for output in _outputs(notebook) if output.get("name") == "stderr"]


def _read_back(notebook: nbformat.NotebookNode) -> Any:
    return json.loads(notebook.cells[-1].outputs[0].text)


def _percentile(ascending: list[float], share: float) -> float:
    """Linear interpolation between the nearest ranks."""
    place = share * (len(ascending) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ascending) - 1)
    return ascending[low] + (place - low) * (ascending[high] - ascending[low])


def _day(moment: datetime) -> str:
    return str(datetime(moment.year, moment.month, moment.day, tzinfo=UTC))
