"""Ray without its token authentication would execute any caller's code: the cluster refuses to run with it off."""

import os
import sys

import pytest

from cluster.contracts.errors import ConfigurationError
from cluster.runtime.ray_node import prepare_ray


@pytest.mark.parametrize("mode", ["disabled", "", "none"])
def test_a_mode_other_than_token_is_refused(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    with pytest.raises(ConfigurationError, match="RAY_AUTH_MODE"):
        prepare_ray(loopback=True)


def test_where_nothing_is_said_it_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    monkeypatch.setitem(os.environ, "RAY_AUTH_MODE", "")
    monkeypatch.delenv("RAY_AUTH_MODE")
    monkeypatch.delenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", raising=False)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    prepare_ray(loopback=True)
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
