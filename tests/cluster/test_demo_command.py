"""``heimdex demo`` as a newcomer runs it: everything is brought up, shown, asked, and gone afterwards."""

from pathlib import Path

from cluster.demo import clips
from tests.support.command_line import CommandLine, left_running, make_environment


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
    assert left_running(folder) == []
