"""``heimdex demo`` as a newcomer runs it: everything is brought up, shown, asked, and gone afterwards."""

from pathlib import Path

import psutil
from command_line import CommandLine, make_environment

from cluster.demo import clips


def test_the_demo_succeeds_and_leaves_nothing_running(cluster_folder: Path) -> None:
    folder = cluster_folder / "demo"
    folder.mkdir()
    newcomer = CommandLine(make_environment(folder), folder)
    done = newcomer.run("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    for clip in clips():
        assert f"READY   {clip.name}" in done.stderr
    for words in ("Time per stage", "wait s", "run s", "RTF", "What was said", "What is seen", "What to try next"):
        assert words in done.stdout
    assert f"{len(clips())} of {len(clips())} videos READY" in done.stdout
    assert [process.info for process in psutil.process_iter(["pid", "name"]) if _belongs_to(process, folder)] == []


def _belongs_to(process: psutil.Process, folder: Path) -> bool:
    """By its environment, which Ray's processes inherit, or its command line, which names Postgres's directory."""
    try:
        return str(folder) in str(process.environ()) + str(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
