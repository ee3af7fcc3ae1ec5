"""The HTTP side on real Ray Serve: health, and a video submitted, processed and found by HTTP alone."""

import time
from typing import Any

import httpx
import pytest

from cluster.demo import clips
from tests.support.command_line import CommandLine

ADMIN_PATHS = [
    "overview",
    "timeseries/throughput?range=30d&bucket=day",
    "timeseries/search?range=30d&bucket=day",
    "users?range=7d&page=1&page_size=50&sort=last_activity",
    "performance/latency?range=30d",
    "performance/rtf?range=30d",
    "performance/queue?range=30d",
    "failures/by-stage?range=30d",
    "timeseries/throughput-v2?range=30d",
]


def test_alive_and_ready(http: httpx.Client) -> None:
    assert http.get("/healthz").status_code == 200
    ready = http.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["ready"] is True


@pytest.mark.parametrize("path", ["/-/routes", "/-/healthz", "/healthz", "/docs", "/nothing", "/v1/videos?page=0"])
def test_answer_has_the_headers_whoever_makes_it(http: httpx.Client, path: str) -> None:
    """A path that begins with ``/-/`` is answered by Serve's proxy."""
    sent = http.get(path).headers
    assert (sent["x-content-type-options"], sent["x-frame-options"]) == ("nosniff", "DENY")
    assert sent["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in sent["content-security-policy"]


@pytest.mark.parametrize("path", ADMIN_PATHS)
def test_admin_endpoints_answer_with_figures_of_real_videos(
    demo_results: list[dict[str, Any]], http: httpx.Client, path: str
) -> None:
    assert demo_results
    answer = http.get(f"/v1/admin/{path}")
    assert answer.status_code == 200
    assert answer.json()


def test_the_owner_s_detail_lists_the_videos(demo_results: list[dict[str, Any]], http: httpx.Client) -> None:
    users = http.get("/v1/admin/users?sort=videos_ready").json()["items"]  # the demo's owner has the most
    detail = http.get(f"/v1/admin/users/{users[0]['user_id']}").json()
    assert detail["videos_ready"] >= len(demo_results)
    assert detail["recent_videos"]


def test_video_submitted_by_http_is_its_owners_alone(heimdex: CommandLine, http: httpx.Client, web_server: str) -> None:
    answer = http.post("/v1/videos", json={"uri": f"{web_server}/{clips()[0].name}"})
    assert answer.status_code == 202
    (video_id,) = answer.json()["ids"]
    end_s = time.monotonic() + 120
    while (video := http.get(f"/v1/videos/{video_id}").json())["status"] not in ("READY", "FAILED"):
        assert time.monotonic() < end_s
        time.sleep(0.2)
    assert video["status"] == "READY", video
    assert len(video["scenes"]) >= 3
    assert {run["name"] for run in video["stages"]} >= {"downloading", "transcription", "finalizing"}
    stranger = heimdex.run("token", "--sub", "00000000-0000-4000-8000-000000000000").stdout.strip()
    other = httpx.get(
        f"{http.base_url}/v1/videos/{video_id}".replace("//v1", "/v1"), headers={"Authorization": f"Bearer {stranger}"}
    )
    assert other.status_code == 404
