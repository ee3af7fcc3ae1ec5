"""No submission reads from the machine's own addresses, public ones included."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.support.lone_machine import NO_NAMESPACE, OPENED, OWN_V4, OWN_V6, PORT, Outcome, Request
from tests.support.missing_part import skip_but_on_ci

ROOT = Path(__file__).parents[2]
OWN = [f"http://{OWN_V4}:{PORT}/film", f"http://[{OWN_V6}]:{PORT}/film", f"http://own.test:{PORT}/film"]
LEADING_THERE = [f"http://{OPENED}:{PORT}/4", f"http://{OPENED}:{PORT}/6"]


def on_lone_machine(request: Request) -> Outcome:
    command = [sys.executable, "-m", "tests.support.lone_machine", json.dumps(asdict(request))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == NO_NAMESPACE:
        skip_but_on_ci("this account may make no network namespace")
    assert done.returncode == 0, done.stderr
    return Outcome(**json.loads(done.stdout))


@pytest.mark.parametrize("uri", [*OWN, f"http://own6.test:{PORT}/film", *LEADING_THERE])
def test_own_public_address_is_refused_unconnected(uri: str) -> None:
    outcome = on_lone_machine(Request([uri]))
    assert "leads to an address of this machine; " in outcome.fetched[uri]
    assert outcome.fetched[uri].startswith("InvalidVideo: ")
    assert outcome.reached == []


def test_own_address_seen_after_connecting_gets_no_request() -> None:
    uris = [*OWN, *LEADING_THERE]
    outcome = on_lone_machine(Request(uris, is_checked=False))
    assert [uri for uri in uris if "leads to an address of this machine; " not in outcome.fetched[uri]] == []
    assert set(outcome.reached) <= {"connection"}


def test_own_address_that_is_opened_is_fetched() -> None:
    uris = [*OWN, *LEADING_THERE]
    outcome = on_lone_machine(Request(uris, opened=[f"{OWN_V4}/32", f"{OWN_V6}/128"]))
    assert outcome.fetched == dict.fromkeys(uris, "film")


@pytest.mark.parametrize("any_can_be_bound", [False, True])
def test_own_addresses_are_told_from_others(any_can_be_bound: bool) -> None:
    own = {OWN_V4: True, OWN_V6: True, "127.0.0.1": True, "9.9.9.9": False, "2a00:1450:4001::6": False}
    request = Request(any_can_be_bound=any_can_be_bound, addresses=list(own))
    assert on_lone_machine(request).own == own
