"""No bad token gets past a guard, whatever is wrong with it and whatever it is sent to."""

from unittest.mock import MagicMock

import jwt
import pytest

from serve_app.auth import StrictTokens
from tests.chaos.refused_tokens import ROUTES, run


def test_bad_token_is_refused_before_the_request_is_read(database_url: str) -> None:
    counts = run(1, database_url, routes_per_token=5)
    assert counts.violations == []
    assert counts.cases >= 100 * len(ROUTES)


def test_a_claim_that_nobody_checks_is_found_out(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    claims = ("aud", "exp", "nbf", "iat", "sub")
    for claim in claims:
        monkeypatch.setattr(jwt.PyJWT, f"_validate_{claim}", MagicMock())
    faults = run(1, database_url, routes_per_token=1).violations
    assert [claim for claim in claims if not any(f": {claim} " in fault for fault in faults)] == []


def test_a_reader_that_is_not_strict_is_found_out(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StrictTokens, "_decode_payload", jwt.PyJWT._decode_payload)
    monkeypatch.setattr(StrictTokens, "header", lambda _self, token: jwt.get_unverified_header(token))
    faults = "\n".join(run(1, database_url, routes_per_token=1).violations)
    for what in ("sub twice", "alg twice", "padded with =", 'no number: "99999999999"', "crit of b64"):
        assert what in faults
