"""SIGTERM in the middle: in bounded time nothing runs any more, what was on the way is handed back, and it goes on."""

import json
import signal
import time
from pathlib import Path

from cluster.demo import clips
from cluster.store.postgres.connections import connect
from cluster.store.postgres.embedded import EmbeddedPostgres
from tests.support.command_line import COMMAND_TIMEOUT_S, CommandLine, left_running, make_environment

BOUND_S = 60.0
"""Ten seconds for what is in flight, and what the processes take to end on a busy machine."""
COUNTS = """
SELECT (SELECT count(*) FROM videos WHERE status = 'PENDING') AS waiting,
       (SELECT count(*) FROM videos WHERE status = 'READY') AS ready,
       (SELECT count(*) FROM video_leases) AS leases,
       (SELECT count(*) FROM video_stage_runs WHERE outcome = 'running') AS open_runs,
       (SELECT max(failures + crashes) FROM video_processing) AS setbacks
"""


def test_a_process_that_is_told_to_end_hands_back_and_takes_its_cluster_down(cluster_folder: Path) -> None:
    folder = cluster_folder / "stopping"
    folder.mkdir()
    command_line = CommandLine(make_environment(folder), folder)
    videos = clips() * 20  # more than the ten seconds suffice for
    process = command_line.start("process", *map(str, videos))
    _wait_until_one_is_ready(folder)
    process.send_signal(signal.SIGTERM)
    began_s = time.monotonic()
    _, errors = process.communicate(timeout=COMMAND_TIMEOUT_S)
    assert time.monotonic() - began_s < BOUND_S
    assert process.returncode == 143
    assert "Traceback" not in errors
    assert left_running(folder) == []

    server = EmbeddedPostgres(folder / "data" / "postgres")
    try:
        with connect(server.start()) as connection:
            counts = connection.execute(COUNTS).fetchone()
    finally:
        server.stop()
    assert counts is not None
    assert counts["waiting"] > 0
    assert counts["waiting"] + counts["ready"] == len(videos)
    assert (counts["leases"], counts["open_runs"], counts["setbacks"]) == (0, 0, 0)
    assert left_running(folder) == []


def _wait_until_one_is_ready(folder: Path) -> None:
    end_s = time.monotonic() + COMMAND_TIMEOUT_S
    state = folder / "data" / "cluster.json"
    while not state.exists():
        assert time.monotonic() < end_s, "the cluster does not come up"
        time.sleep(0.2)
    with connect(json.loads(state.read_text())["database_url"], autocommit=True) as connection:
        while connection.execute("SELECT 1 FROM videos WHERE status = 'READY'").fetchone() is None:
            assert time.monotonic() < end_s, "no video becomes READY"
            time.sleep(0.05)
