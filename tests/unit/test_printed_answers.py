"""The output of a command whose libraries print too: its answer alone on standard output."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

NOISY = """
import os, threading
from cluster.cli.terminal import out, out_json, silent_output

def work():
    print("a loader's progress")
    os.write(1, b"a warning of C++\\n")
    thread = threading.Thread(target=print, args=("(raylet) a warning of a thread",))
    thread.start()
    thread.join()
"""
ENDS_WELL = """
with silent_output():
    work()
out_json({"embedded": 7}, indent=None)
"""
FAILS = """
try:
    with silent_output():
        work()
        raise ValueError
except ValueError:
    out("error")
"""
EMBEDS = """
import sys, typer
from contextlib import nullcontext
from cluster.cli import reembed_command
from cluster.reembed import run
from cluster.reembed.run import Outcome

def reembed(*_):
    work()
    return Outcome(7, {}, 0, {})

run.reembed = reembed
app = typer.Typer()
app.command()(reembed_command.command_in(lambda *_: nullcontext("postgresql://"), lambda _: nullcontext()))
sys.argv = ["reembed", "--json"]
sys.exit(reembed_command.run(app))
"""


def printed(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", NOISY + script], capture_output=True, text=True, check=True, timeout=120
    )


def test_answer_is_all_that_standard_output_holds() -> None:
    run = printed(ENDS_WELL)
    assert json.loads(run.stdout) == {"embedded": 7}
    for line in ("a loader's progress", "a warning of C++", "(raylet) a warning of a thread"):
        assert line in run.stderr


def test_standard_output_is_given_back_after_an_error() -> None:
    assert printed(FAILS).stdout == "error\n"


def test_embedding_prints_its_counts_alone() -> None:
    run = printed(EMBEDS)
    assert json.loads(run.stdout) == {"embedded": 7, "failed": 0, "lacking": 0, "switched": {}}
    assert "a warning of C++" in run.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_commands_run_without_standard_streams(tmp_path: Path, closed: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(NOISY + EMBEDS.replace("work()", "assert open('/dev/null').fileno() > 2; work()"))
    command = f"{sys.executable} {script} {closed}"
    run = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, timeout=120)
    assert (run.returncode, "Traceback" in run.stderr) == (0, False), run.stderr
    assert ('"embedded": 7' in run.stdout) == (" >&-" not in f" {closed}")
