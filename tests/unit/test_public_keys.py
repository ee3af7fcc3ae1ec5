"""Tokens whose keys are cached are verified at once, whatever the issuer does meanwhile."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from serve_app.auth import AuthRules, TokenVerifier
from serve_app.callers import VERIFYING_THREADS
from serve_app.error_responses import KeysUnavailable, Unauthorized
from serve_app.public_keys import PublicKeys
from tests.chaos.token_issuer import EC_KEY, Issuer, jwk

USER = UUID("aaaaaaaa-0000-4000-8000-000000000001")
NEW_KEY = ec.generate_private_key(ec.SECP256R1())
TIMEOUT_S = 6.0
AT_ONCE_S = 0.5


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer().running() as running:
        yield running
        running.answers.set()


def token(kid: str = "ec", key: ec.EllipticCurvePrivateKey = EC_KEY) -> str:
    claims = {"sub": str(USER), "aud": "authenticated", "exp": int(time.time()) + 300}
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": kid})


def verifier(issuer: Issuer, pause_s: float = 0.0) -> TokenVerifier:
    keys = PublicKeys(issuer.url, timeout_s=TIMEOUT_S, pause_s=pause_s)
    return TokenVerifier(AuthRules(None, issuer.url, frozenset()), keys)


def took_s(ask: Callable[[], object]) -> float:
    began_s = time.monotonic()
    ask()
    return time.monotonic() - began_s


def refusal(verify: TokenVerifier, kid: str) -> str:
    try:
        verify.user_id(token(kid))
    except (KeysUnavailable, Unauthorized) as error:
        return type(error).__name__
    return "accepted"


def test_cached_key_while_issuer_hangs_verifies_at_once(issuer: Issuer) -> None:
    verify = verifier(issuer)
    assert verify.user_id(token()) == USER
    issuer.answers.clear()
    with ThreadPoolExecutor(VERIFYING_THREADS) as threads:
        unknown = [threads.submit(refusal, verify, f"made up {number}") for number in range(20)]
        wait_until(lambda: issuer.fetches == 2)
        waited_s = took_s(lambda: threads.submit(verify.user_id, token()).result())
        assert waited_s < AT_ONCE_S, f"a valid token waited {waited_s:.1f} s"
        assert {one.result() for one in unknown} == {"KeysUnavailable"}
    assert issuer.fetches == 2


def test_unknown_key_while_issuer_hangs_is_refused_soon(issuer: Issuer) -> None:
    verify = verifier(issuer)
    verify.user_id(token())
    issuer.answers.clear()
    assert took_s(lambda: refusal(verify, "made up")) < 2.0
    assert took_s(lambda: refusal(verify, "made up too")) < AT_ONCE_S
    assert issuer.fetches == 2


def test_new_key_after_issuer_hung_is_accepted(issuer: Issuer) -> None:
    verify = verifier(issuer)
    verify.user_id(token())
    issuer.keys = [jwk(NEW_KEY, "new")]
    issuer.answers.clear()
    assert refusal(verify, "new") == "KeysUnavailable"
    issuer.answers.set()
    wait_until(lambda: refusal(verify, "new") == "Unauthorized")  # found; EC_KEY did not make it
    assert verify.user_id(token("new", NEW_KEY)) == USER
    assert refusal(verify, "ec") == "Unauthorized"


def test_first_tokens_of_a_slow_issuer_all_wait(issuer: Issuer) -> None:
    verify = verifier(issuer)
    issuer.answers.clear()
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(verify.user_id, token()) for _ in range(8)]
        wait_until(lambda: issuer.fetches == 1)
        Event().wait(1.5)  # longer than a token waits for an unknown key
        issuer.answers.set()
        assert {one.result() for one in asked} == {USER}
    assert issuer.fetches == 1


def test_key_set_near_its_end_is_fetched_while_in_use(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.public_keys.EARLY_S", 300.0)
    verify = verifier(issuer)
    verify.user_id(token())
    issuer.answers.clear()
    assert took_s(lambda: verify.user_id(token())) < AT_ONCE_S
    wait_until(lambda: issuer.fetches == 2)


def test_key_set_that_expired_verifies_nothing(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.public_keys.LIFESPAN_S", 0.05)
    verify = verifier(issuer)
    verify.user_id(token())
    issuer.healthy = False
    Event().wait(0.1)
    assert refusal(verify, "ec") == "KeysUnavailable"


def test_answer_that_is_no_key_set_is_away(issuer: Issuer) -> None:
    issuer.body = b"[" * 100_000
    assert refusal(verifier(issuer), "ec") == "KeysUnavailable"


def wait_until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
