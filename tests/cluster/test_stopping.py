"""SIGTERM in the middle: in bounded time nothing runs any more, what was on the way is handed back, and it goes on."""

import json
import signal
import socket
import time
from pathlib import Path

import pytest

from cluster.demo import clips
from cluster.store.postgres.connections import connect
from cluster.store.postgres.embedded import EmbeddedPostgres
from tests.support.command_line import COMMAND_TIMEOUT_S, CommandLine, left_running, make_environment

pytestmark = pytest.mark.long

BOUND_S = 20.0
"""Ten seconds, and as many more for a machine on which other tests run."""
COUNTS = """
SELECT (SELECT count(*) FROM videos WHERE status = 'PENDING') AS waiting,
       (SELECT count(*) FROM videos WHERE status = 'READY') AS ready,
       (SELECT count(*) FROM video_leases) AS leases,
       (SELECT count(*) FROM video_stage_runs WHERE outcome = 'running') AS open_runs,
       (SELECT max(failures + crashes) FROM video_processing) AS setbacks
"""


def test_command_sigterm_hands_back_and_takes_cluster_down(cluster_folder: Path) -> None:
    folder = cluster_folder / "stopping"
    folder.mkdir()
    command_line = CommandLine(make_environment(folder), folder)
    videos = clips() * 20
    process = command_line.start("process", "--again", *map(str, videos))
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


def test_up_foreground_ends_in_order_at_sigterm(cluster_folder: Path) -> None:
    folder = cluster_folder / "foreground"
    folder.mkdir()
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notified.bind(str(folder / "notify"))
    notified.settimeout(COMMAND_TIMEOUT_S)
    command_line = CommandLine(make_environment(folder, NOTIFY_SOCKET=str(folder / "notify")), folder)
    process = command_line.start("up", "--foreground")
    with notified:
        assert notified.recv(64) == b"READY=1"
        command_line.json("submit", "--again", *map(str, clips() * 20))
        _wait_until_one_is_ready(folder)
        process.send_signal(signal.SIGTERM)
        began_s = time.monotonic()
        assert notified.recv(64) == b"STOPPING=1"
        output, errors = process.communicate(timeout=COMMAND_TIMEOUT_S)
    assert time.monotonic() - began_s < BOUND_S
    assert (process.returncode, output.splitlines()[-1]) == (0, "The cluster is down.")
    assert "handed back" in errors
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
