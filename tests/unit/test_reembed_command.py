"""What a job that embeds prints: its counts alone on standard output, whatever Ray prints beside them."""

import json
import subprocess
import sys

NOISY_RAY = """
import os, sys, threading, types
ray = types.ModuleType("ray")
def init(**_):
    print("(raylet) a warning of Python")
    os.write(1, b"a warning of C++")
ray.init = init
ray.shutdown = lambda: print("the rest of the log")
sys.modules["ray"] = ray
from cluster.reembed_command import _ray_of_the_job
from cluster.settings import load_settings
from cluster.terminal import out_json
"""
ENDS_WELL = """
with _ray_of_the_job(load_settings()):
    print("a thread of Ray's")
out_json({"embedded": 7}, indent=None)
"""
FAILS = """
try:
    with _ray_of_the_job(load_settings()):
        raise ValueError
except ValueError:
    out_json({"embedded": 0}, indent=None)
"""


def printed(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", NOISY_RAY + script], capture_output=True, text=True, check=True, timeout=120
    )


def test_job_prints_its_counts_alone() -> None:
    run = printed(ENDS_WELL)
    assert json.loads(run.stdout) == {"embedded": 7}
    for line in ("a warning of Python", "a warning of C++", "a thread of Ray's", "the rest of the log"):
        assert line in run.stderr


def test_job_that_fails_gives_standard_output_back() -> None:
    assert json.loads(printed(FAILS).stdout) == {"embedded": 0}
