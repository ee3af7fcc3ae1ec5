"""The commands as a person types them, on a cluster that is up."""

import functools
import json
import signal
import subprocess
import sys
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from cluster.demo import clips
from cluster.store.postgres.connections import Pool
from cluster.store.postgres.embedded import binary
from tests.support.command_line import CommandLine, make_environment

RESULT_KEYS = {
    "id", "uri", "filename", "status", "processing_stage", "error_type", "error_message", "duration_s", "queue_ms",
    "processing_ms", "rtf", "scenes", "words", "warnings", "metadata", "wait_ms", "run_ms", "stages",
}  # fmt: skip


def test_json_has_the_promised_keys(demo_results: list[dict[str, Any]]) -> None:
    for result in demo_results:
        assert set(result) == RESULT_KEYS
        for run in result["stages"]:
            assert set(run) == {"name", "wait_ms", "run_ms", "outcome"}


def test_progress_is_on_standard_error_and_tables_on_output(heimdex: CommandLine) -> None:
    done = heimdex.run("process", "--again", str(clips()[0]))
    assert done.returncode == 0
    assert f"READY   {clips()[0].name}" in done.stderr
    assert "Time per stage" in done.stdout
    assert "1 of 1 video READY" in done.stdout


def test_status_shows_workers_and_counts(heimdex: CommandLine, demo_results: list[dict[str, Any]]) -> None:
    status = heimdex.json("status")
    assert status["scheduling"]
    assert {worker["kind"] for worker in status["workers"]} == {
        "scheduler", "fetcher", "media", "transcriber", "embedder", "writer",
    }  # fmt: skip
    assert status["videos"]["READY"] >= len(demo_results)
    assert all(0 <= worker["busy_share"] <= 1 for worker in status["workers"] if worker["recent_s"])
    assert "transcriber-1" in heimdex.run("status", "--all").stdout
    assert len(heimdex.run("status").stdout.splitlines()) <= 24


def test_processed_videos_are_found_again_by_name_and_batch(
    heimdex: CommandLine, demo_results: list[dict[str, Any]]
) -> None:
    done = heimdex.run("process", str(clips()[0]), "--again", "--batch", "seen twice")
    assert done.returncode == 0, done.stderr
    (video,) = heimdex.json("list", "--batch", "seen twice")
    assert f"{video['id']}  {clips()[0].name}" in done.stdout
    shown = heimdex.json("show", video["id"][:13])
    assert (shown["status"], shown["batch"]) == ("READY", "seen twice")
    assert [stage["outcome"] for stage in shown["stages"]] == ["completed"] * 7
    assert heimdex.run("watch", "--batch", "seen twice").returncode == 0
    several = heimdex.run("show", str(clips()[0]))
    assert several.returncode == 1
    assert video["id"] in several.stderr
    assert {"tag", "scenes", "videos"} == set(heimdex.json("tags")[0])


def test_up_while_up_says_the_url_and_ends_well(heimdex: CommandLine, cluster_state: dict[str, Any]) -> None:
    done = heimdex.run("up")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"The cluster is up already: {cluster_state['http_url']}")


def test_env_leads_rays_own_commands_to_this_cluster(heimdex: CommandLine, cluster_state: dict[str, Any]) -> None:
    exports = heimdex.run("env").stdout
    assert exports.splitlines()[0] == f"export RAY_ADDRESS={cluster_state['ray_address']}"
    ray = f"'{sys.executable}' -m ray.scripts.scripts"
    shell = (
        f"{exports}\n{ray} status && {ray} list actors --limit 100 && '{sys.executable}' -m ray.serve.scripts status"
    )
    shown = subprocess.run(
        ["sh", "-c", shell], env=dict(heimdex.environment), capture_output=True, text=True, timeout=120, check=False
    )
    assert shown.returncode == 0, shown.stderr
    assert all(f"heimdex {name}" in shown.stdout for name in ("media-1", "transcriber-1", "scheduler"))
    assert "StageActor" not in shown.stdout
    assert "status: RUNNING" in shown.stdout


def test_up_wrong_setting_is_named_with_the_allowed_values(cluster_folder: Path) -> None:
    wrong = CommandLine(make_environment(cluster_folder, HEIMDEX_DEVICE="tpu"), cluster_folder)
    done = wrong.run("up")
    assert done.returncode == 2
    assert "HEIMDEX_DEVICE" in done.stderr
    assert "'auto', 'cpu' or 'cuda'" in done.stderr


def test_up_without_its_model_leaves_nothing_running(cluster_folder: Path) -> None:
    folder = cluster_folder / "nomodel"
    folder.mkdir()
    wrong = CommandLine(make_environment(folder, HEIMDEX_WHISPER_MODEL="/no/such/model"), folder)
    done = wrong.run("up")
    assert done.returncode == 2
    assert "HEIMDEX_WHISPER_MODEL=/no/such/model" in done.stderr
    assert wrong.run("status").returncode == 1
    assert wrong.run("db", "url").returncode == 2


def test_search_finds_what_was_said_and_its_json_names_the_place(
    heimdex: CommandLine, demo_results: list[dict[str, Any]]
) -> None:
    from cluster.demo import queries

    spoken = next(query for query in queries() if query.kind == "spoken")
    hits = heimdex.json("search", spoken.text)
    first = hits[0]
    assert (first["filename"], first["scene_index"]) == (spoken.clip.name, spoken.scene)
    # Other tests process the same clip: whichever of the equal scenes comes first in which list is left to chance.
    same = [hit for hit in hits if (hit["filename"], hit["scene_index"]) == (spoken.clip.name, spoken.scene)]
    assert 1 in {hit["words_rank"] for hit in same}
    assert Path(httpx.URL(first["thumbnail_url"]).path).read_bytes()[:2] == b"\xff\xd8"


def test_ctrl_c_leaves_videos_submitted_and_says_how_to_resume(heimdex: CommandLine, cluster_pool: Pool) -> None:
    process = heimdex.start("process", "--again", *map(str, clips()))
    _wait_until_submitted(cluster_pool, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stay submitted and go on" in errors
    assert "Traceback" not in errors
    end_s = time.monotonic() + 120
    while _under_way(heimdex):
        assert time.monotonic() < end_s
    with cluster_pool.connection() as connection:
        rows = connection.execute(
            "SELECT status::text FROM videos ORDER BY created_at DESC, queued_at DESC LIMIT %s", (len(clips()),)
        ).fetchall()
    assert [row["status"] for row in rows] == ["READY"] * len(clips())


def test_a_manifest_goes_in_without_its_bad_rows(heimdex: CommandLine, cluster_folder: Path) -> None:
    manifest = cluster_folder / "videos.jsonl"
    manifest.write_text(
        json.dumps({"uri": str(clips()[0]), "language": "en"}) + "\n"
        "{not json\n" + json.dumps({"adress": "misspelt"}) + "\n" + json.dumps({"uri": str(clips()[1])}) + "\n"
    )
    done = heimdex.run("submit", "--again", "--manifest", str(manifest))
    assert done.returncode == 1
    assert "submitted 2 videos" in done.stdout
    assert f"{manifest}:2: not valid JSON" in done.stderr
    assert f"{manifest}:3: uri: is missing" in done.stderr


@pytest.mark.parametrize("data_dir", ["data", "no-cluster"])
def test_submit_manifest_by_ray_prints_our_lines_alone(
    heimdex: CommandLine, cluster_folder: Path, data_dir: str
) -> None:
    served = cluster_folder / "served"
    served.mkdir(exist_ok=True)
    (served / "two.csv").write_text(f"uri\n{clips()[0]}\n{clips()[1]}\n")
    here = CommandLine({**heimdex.environment, "HEIMDEX_DATA_DIR": str(cluster_folder / data_dir)}, cluster_folder)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        manifest = f"http://127.0.0.1:{server.server_port}/two.csv"
        done = here.run("submit", "--again", "--manifest", manifest)
        server.shutdown()
    assert (done.returncode, done.stderr) == (0, "")
    first, *videos, batch = done.stdout.splitlines()
    assert first.startswith("submitted 2 videos")
    assert [line.split()[-1] for line in videos] == [clip.name for clip in clips()[:2]]
    assert batch.startswith("batch ")


def test_ray_job_bad_row_and_corrupt_file_exit_with_1(
    heimdex: CommandLine, cluster_state: dict[str, Any], cluster_folder: Path
) -> None:
    folder = cluster_folder / "job"
    folder.mkdir()
    (folder / "corrupt.mp4").write_bytes(clips()[0].read_bytes()[:20_000])
    (folder / "videos.csv").write_text(
        f"uri,language\n{clips()[0]},en\n,en\n{folder / 'corrupt.mp4'},\n{clips()[1]},\n"
    )
    job = heimdex.submit_job(
        cluster_state["dashboard_url"], folder, "python", "-m", "cluster.batch", "--manifest", "videos.csv"
    )
    output = job.stdout + job.stderr
    assert job.returncode == 1, output
    assert "videos.csv:3: uri: is missing" in output
    assert "FAILED  corrupt.mp4: " in output
    assert "2 of 3 videos READY" in output
    assert "Traceback" not in output


def test_a_ray_job_needs_the_token(cluster_state: dict[str, Any]) -> None:
    answer = httpx.get(f"{cluster_state['dashboard_url']}/api/jobs/")
    assert answer.status_code in (401, 403)


def test_everything_listens_on_loopback_only(heimdex: CommandLine, cluster_state: dict[str, Any]) -> None:
    import psutil

    node = psutil.Process(cluster_state["node"]["pid"])
    addresses = {
        connection.laddr.ip
        for process in [node, *node.children(recursive=True)]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses
    assert addresses <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_psql_and_the_endpoint_give_the_same_figures(
    demo_results: list[dict[str, Any]], heimdex: CommandLine, http: httpx.Client
) -> None:
    assert demo_results
    url = heimdex.run("db", "url").stdout.strip()
    row = subprocess.run(
        [str(binary("psql")), url, "-At", "-c", "select row_to_json(t) from get_admin_rtf_distribution(30) as t"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    answer = http.get("/v1/admin/performance/rtf", params={"range": "30d"}).raise_for_status().json()
    assert json.loads(row) == answer
    assert answer["videos_measured"] >= len(demo_results)


@pytest.mark.parametrize("command", ["up", "down", "env", "status", "process", "submit", "search", "migrate",
                                     "backfill", "token", "doctor", "db", "demo"])  # fmt: skip
def test_help_says_what_a_command_does(command: str, cluster_folder: Path) -> None:
    done = CommandLine(make_environment(cluster_folder), cluster_folder).run(command, "--help")
    assert done.returncode == 0
    assert len(done.stdout) > 200


def test_a_token_for_somebody_else_is_no_admin(heimdex: CommandLine, cluster_state: dict[str, Any]) -> None:
    token = heimdex.run("token", "--sub", str(uuid4())).stdout.strip()
    headers = {"Authorization": f"Bearer {token}"}
    answer = httpx.get(f"{cluster_state['http_url']}/v1/admin/overview", headers=headers)
    assert answer.status_code == 403


def test_doctor_has_no_finding_on_the_tests_cluster(heimdex: CommandLine) -> None:
    done = heimdex.run("doctor")
    assert done.returncode == 0, done.stdout


def _under_way(heimdex: CommandLine) -> int:
    videos = heimdex.json("status")["videos"]
    return int(videos["PENDING"]) + int(videos["PROCESSING"])


def _wait_until_submitted(pool: Pool, process: "subprocess.Popen[str]") -> None:
    before = _newest(pool)
    end_s = time.monotonic() + 60
    while _newest(pool) == before:
        assert process.poll() is None
        assert time.monotonic() < end_s
        time.sleep(0.05)


def _newest(pool: Pool) -> UUID | None:
    with pool.connection() as connection:
        row = connection.execute("SELECT id FROM videos ORDER BY created_at DESC, queued_at DESC LIMIT 1").fetchone()
    return row["id"] if row else None
