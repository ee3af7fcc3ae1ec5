"""URIs that must be refused are refused, and nobody is connected to on the way."""

from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from cluster.contracts.errors import TransientFailure
from cluster.storage import fetch
from tests.chaos.refused_uris import LIMITS, REFUSED, run
from tests.chaos.watched_network import watched_network


@pytest.mark.parametrize("seed", [1, 2])
def test_what_must_be_refused_is_refused_and_connects_to_nothing(seed: int) -> None:
    counts = run(seed)
    assert counts.violations == []
    assert counts.cases > len(REFUSED) >= 60


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "127.0.0.2"])
def test_a_connection_would_be_seen(tmp_path: Path, host: str) -> None:
    opened = tuple(ip_network(network) for network in ("127.0.0.0/8", "::1/128"))
    with watched_network({}) as watch:
        with pytest.raises(TransientFailure):
            fetch(f"http://{host}:{watch.port}/a", tmp_path, replace(LIMITS, timeout_s=0.2, private_networks=opened))
        assert watch.seen() == [f"tried to connect to {host.strip('[]')}", f"connected to {host.strip('[]')}"]
        assert watch.seen() == []
