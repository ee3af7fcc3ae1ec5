"""One owner's servers attack all at once; another owner's video comes through. ``make chaos`` measures how fast."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from cluster.demo import clips
from tests.chaos.hostile_sources import ATTACKS
from tests.chaos.sources import Owner, left_by
from tests.support.command_line import CommandLine
from tests.support.scripted_web import serving

pytestmark = pytest.mark.long

ATTACKER = UUID(int=666)
READY_WITHIN_S = 60.0
"""A source that drips is given up after this, an endless body later."""
ASKED_WITHIN_S = 20.0


@pytest.fixture
def attacker(heimdex: CommandLine, http: httpx.Client) -> Iterator[Owner]:
    token = heimdex.run("token", "--sub", str(ATTACKER)).stdout.strip()
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=http.base_url, headers=headers, timeout=30.0) as client:
        owner = Owner(client)
        yield owner
        owner.cancel_all()


def test_hostile_sources_stop_nobody_else(
    heimdex: CommandLine, http: httpx.Client, web_server: str, attacker: Owner
) -> None:
    scratch = Path(heimdex.environment["HEIMDEX_SCRATCH_DIR"])
    with ExitStack() as servers:
        for attack in reversed(ATTACKS):  # an owner has eight places: the ones that drip come last
            web = servers.enter_context(serving(attack.script))
            for number in range(attack.count):
                attacker.submit(f"{web.url}/{number}.mp4")
            end_s = time.monotonic() + ASKED_WITHIN_S
            while not web.asked and time.monotonic() < end_s:
                time.sleep(0.1)
        owner, begun_s = Owner(http), time.monotonic()
        owner.until_ready(owner.submit(f"{web_server}/{clips()[0].name}"))
        assert time.monotonic() - begun_s < READY_WITHIN_S
        assert http.get("/readyz").status_code == 200
        attacker.cancel_all()
        assert left_by(ATTACKS[0], scratch) == []
