"""``make bench``: start-up time, throughput, time per stage and memory on this machine, through the real commands.

Prints a report and keeps it in results.md. ``--quick`` leaves out the hour of video and keeps nothing.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cluster.demo import clips
from tests.benchmarks.long_video import write_hour

RESULTS = Path(__file__).with_name("results.md")
ROUNDS = 5
MEDIA_WORKER_BOUND_BYTES = int(1.5 * 1024**3)

Result = dict[str, Any]


def main() -> None:
    """Run the benchmarks and print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="without the hour of video; results.md stays as it is")
    quick = parser.parse_args().quick
    folder = Path(tempfile.mkdtemp(prefix="heimdex-bench-"))
    try:
        report = _measure(folder, quick)
    finally:
        shutil.rmtree(folder)
    print(report)
    if not quick:
        RESULTS.write_text(report)
        print(f"kept in {RESULTS}", file=sys.stderr)


def _measure(folder: Path, quick: bool) -> str:
    parts = [_heading()]
    with _cluster(folder) as (environment, up_s):
        parts.append(f"`heimdex up` with the bundled models: {up_s:.1f} s until every worker and HTTP are ready.\n")
        _say("the demo's clips")
        wall_s, results = _process(environment, [str(clip) for clip in clips()] * ROUNDS)
        parts.append(_throughput(f"The demo's {len(clips())} clips, {ROUNDS} times", wall_s, results))
        parts.append(_stages(results))
        parts.append(_memory("after the demo's clips", environment))
        if not quick:
            _say("an hour of 1080p")
            hour = folder / "hour.mp4"
            write_hour(hour)
            wall_s, results = _process(environment, [str(hour)])
            parts.append(_throughput("One video of 60 minutes, 1920x1080, with speech", wall_s, results))
            parts.append(_stages(results))
            parts.append(_memory("after the hour of 1080p", environment))
    return "\n".join(parts)


@contextmanager
def _cluster(folder: Path) -> Iterator[tuple[dict[str, str], float]]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEIMDEX_")}
    environment = {
        **inherited,
        "HEIMDEX_DATA_DIR": str(folder / "data"),
        "HEIMDEX_SCRATCH_DIR": str(folder / "scratch"),
        "HEIMDEX_WHISPER_MODEL": "bundled",
        "HEIMDEX_CLIP_MODEL": "bundled",
        "HEIMDEX_HTTP_PORT": "0",
        "HEIMDEX_DASHBOARD_PORT": "0",
    }
    _say("heimdex up")
    started_s = time.monotonic()
    try:
        _heimdex(environment, "up")
        yield environment, time.monotonic() - started_s
    finally:
        _heimdex(environment, "down")


def _process(environment: dict[str, str], uris: Sequence[str]) -> tuple[float, list[Result]]:
    """Wall seconds from the first claim to the last finish, and the results; all must be READY."""
    answered = json.loads(_heimdex(environment, "process", "--json", *uris))
    failed = [result for result in answered if result["status"] != "READY"]
    if failed:
        raise SystemExit(f"not READY: {failed}")
    ends = [result["queue_ms"] + result["processing_ms"] for result in answered]
    first_claim = min(result["queue_ms"] for result in answered)
    return (max(ends) - first_claim) / 1000, answered


def _heading() -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("ray", "torch", "faster-whisper", "av"))
    return (
        f"# Benchmarks\n\n{datetime.now(UTC):%Y-%m-%d}, {_processor()}, {os.cpu_count()} CPUs, no GPU used, "
        f"Python {platform.python_version()}, {versions}. Made by `make bench`.\n"
    )


def _throughput(title: str, wall_s: float, results: list[Result]) -> str:
    video_s = sum(result["duration_s"] for result in results)
    rtfs = sorted(result["rtf"] for result in results)
    scenes = sum(result["scenes"] for result in results)
    words = sum(result["words"] for result in results)
    return (
        f"## {title}\n\n| figure | value |\n|---|---:|\n"
        f"| videos per minute | {60 * len(results) / wall_s:.1f} |\n"
        f"| seconds of video per second | {video_s / wall_s:.1f} |\n"
        f"| RTF of a video (median; many are on the way at once) | {rtfs[len(rtfs) // 2]:.3f} |\n"
        f"| scenes, words | {scenes}, {words} |\n"
    )


def _stages(results: list[Result]) -> str:
    waits: dict[str, float] = defaultdict(float)
    runs: dict[str, float] = defaultdict(float)
    for result in results:
        for stage in result["stages"]:
            waits[stage["name"]] += stage["wait_ms"] / 1000
            runs[stage["name"]] += stage["run_ms"] / 1000
    video_s = sum(result["duration_s"] for result in results)
    lines = [f"| {name} | {waits[name]:.2f} | {runs[name]:.2f} | {runs[name] / video_s:.4f} |" for name in runs]
    return "| stage | wait s | run s | run s per second of video |\n|---|---:|---:|---:|\n" + "\n".join(lines) + "\n"


def _memory(when: str, environment: dict[str, str]) -> str:
    workers = json.loads(_heimdex(environment, "status", "--json"))["workers"]
    lines = [
        f"| {worker['worker'].rpartition('/')[2]} | {worker['peak_memory_bytes'] / 1024**2:.0f} |"
        for worker in workers
        if worker["peak_memory_bytes"]
    ]
    media = max(w["peak_memory_bytes"] for w in workers if w["kind"] == "media" and w["peak_memory_bytes"])
    verdict = (
        f"The bound of a media worker is {MEDIA_WORKER_BOUND_BYTES / 1024**2:.0f} MiB; used: {media / 1024**2:.0f}.\n"
    )
    return f"| worker, {when} | peak memory MiB |\n|---|---:|\n" + "\n".join(lines) + f"\n\n{verdict}"


def _heimdex(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cluster.cli", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"heimdex {arguments[0]} ended with {done.returncode}")
    return done.stdout


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
