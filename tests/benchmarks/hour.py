"""``make bench-hour``: start-up time, time per stage and memory, for the demo's clips and for an hour of 1080p.

Prints a report and keeps it in hour.md. What is held against others is ``run``'s.
"""

import json
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from cluster.demo import clips
from tests.benchmarks.long_video import write_hour
from tests.benchmarks.machine import machine
from tests.benchmarks.own_cluster import OwnCluster, Result, own_cluster

KEPT = Path(__file__).with_name("hour.md")
ROUNDS = 5
MEDIA_WORKER_BOUND_BYTES = int(1.5 * 1024**3)


def main() -> None:
    """Measure, print and keep the report."""
    folder = Path(tempfile.mkdtemp(prefix="heimdex-bench-"))
    try:
        report = _measure(folder)
    finally:
        shutil.rmtree(folder)
    print(report)
    KEPT.write_text(report)
    print(f"kept in {KEPT}", file=sys.stderr)


def _measure(folder: Path) -> str:
    parts = [f"# An hour of video\n\n{machine()}. Made by `make bench-hour`.\n"]
    with own_cluster(folder) as cluster:
        parts.append(
            f"`heimdex up` with the bundled models: {cluster.up_s:.1f} s until all workers and HTTP are ready.\n"
        )
        parts.append(_measured(cluster, f"The demo's {len(clips())} clips, {ROUNDS} times", [*clips()] * ROUNDS))
        hour = folder / "hour.mp4"
        write_hour(hour)
        parts.append(_measured(cluster, "One video of 60 minutes, 1920x1080, with speech", [hour]))
    return "\n".join(parts)


def _measured(cluster: OwnCluster, title: str, videos: Sequence[Path]) -> str:
    print(f"bench: {title}", file=sys.stderr, flush=True)
    results, spent = cluster.process([str(video) for video in videos])
    parts = [_throughput(title, spent.wall_s, results), _stages(results), _memory(cluster)]
    return "\n".join(parts)


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


def _memory(cluster: OwnCluster) -> str:
    """The largest resident set of each worker so far."""
    workers = [w for w in json.loads(cluster.heimdex("status", "--json"))["workers"] if w["peak_memory_bytes"]]
    lines = [f"| {w['worker'].rpartition('/')[2]} | {w['peak_memory_bytes'] / 2**20:.0f} |" for w in workers]
    media = max(w["peak_memory_bytes"] for w in workers if w["kind"] == "media")
    bound = f"A media worker's bound is {MEDIA_WORKER_BOUND_BYTES >> 20} MiB; used: {media / 2**20:.0f}."
    return "| worker | peak memory MiB |\n|---|---:|\n" + "\n".join(lines) + f"\n\n{bound}\n"


if __name__ == "__main__":
    main()
