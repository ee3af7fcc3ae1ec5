"""Who gets in: good tokens against the real verifier, keys from a real HTTP server; bad ones: test_refused_tokens."""

import base64
import json
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.testclient import TestClient

from cluster.contracts.errors import ConfigurationError
from serve_app.auth import AuthRules, TokenVerifier
from serve_app.development_tokens import mint_token
from serve_app.error_responses import KeysUnavailable, Unauthorized
from serve_app.public_keys import PublicKeys
from tests.chaos.token_issuer import EC_KEY, RSA_KEY, Issuer, jwk
from tests.support.api_client import ADMIN, ALICE, SECRET, ApiMaker, Heimdex, headers

ISSUED = {"aud": "authenticated", "sub": str(ADMIN)}
OTHER_EC_KEY = ec.generate_private_key(ec.SECP256R1())


def claims(**changed: Any) -> dict[str, Any]:
    """Claims of a valid token, with changes; None leaves a claim out."""
    whole = {**ISSUED, "exp": int(time.time()) + 300, **changed}
    return {name: value for name, value in whole.items() if value is not None}


def signed(key: Any = SECRET, algorithm: str = "HS256", kid: str | None = None, **changed: Any) -> str:
    return jwt.encode(claims(**changed), key, algorithm=algorithm, headers={"kid": kid} if kid else None)


def by_hand(header: dict[str, Any], payload: dict[str, Any], signature: bytes = b"") -> str:
    """A token that no library would make."""
    parts = (json.dumps(header).encode(), json.dumps(payload).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def test_a_token_is_judged_before_anything_else(api: TestClient) -> None:
    assert api.get("/v1/admin/performance/rtf?range=forever").status_code == 401
    json = {"Content-Type": "application/json"}
    assert api.post("/v1/videos", content=b"[" * 100_000, headers=json).status_code == 401
    for path in ("/v1/admin/failures/retry", "/v1/admin/videos/cancel"):
        assert api.post(path, content=b"{", headers=json).status_code == 401
        assert api.post(path, content=b"{", headers={**json, **headers(ALICE)}).status_code == 403


def test_the_reason_is_named(api: TestClient) -> None:
    def detail(**sent: str) -> str:
        response = api.get("/v1/videos", headers=sent)
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        return str(response.json()["detail"])

    def of_claims(**changed: Any) -> str:
        return detail(Authorization=f"Bearer {signed(**changed)}")

    assert detail().startswith("A bearer token is required")
    assert detail(Authorization="Basic YTpi").startswith("A bearer token is required")
    assert of_claims(exp=int(time.time()) - 60) == "The token has expired."
    assert "'authenticated'" in of_claims(aud="anon")
    assert "'exp'" in of_claims(exp=None)
    assert "'sub'" in of_claims(sub=None)
    assert "not an admin" in api.get("/v1/admin/overview", headers=headers(ALICE)).json()["detail"]


def test_a_minted_token_names_its_user_until_it_expires() -> None:
    verifier = TokenVerifier(AuthRules(SECRET, None, frozenset()))
    assert verifier.user_id(mint_token(SECRET, ALICE, timedelta(minutes=1))) == ALICE
    with pytest.raises(Unauthorized):
        verifier.user_id(mint_token(SECRET, ALICE, timedelta(seconds=-10)))


def test_rules_without_a_usable_key_are_refused() -> None:
    for secret, url in ((None, None), ("short", None), (None, "file:///etc/keys.json")):
        with pytest.raises(ConfigurationError):
            AuthRules(secret, url, frozenset())
    assert SECRET not in repr(AuthRules(SECRET, None, frozenset()))


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer().running() as running:
        yield running


def verifier_of(issuer: Issuer, secret: str | None = None, pause_s: float = 10.0) -> TokenVerifier:
    rules = AuthRules(secret, issuer.url, frozenset({ADMIN}))
    return TokenVerifier(rules, PublicKeys(issuer.url, timeout_s=2.0, pause_s=pause_s))


@pytest.mark.parametrize(("key", "algorithm", "kid"), [(EC_KEY, "ES256", "ec"), (RSA_KEY, "RS256", "rsa")])
def test_public_keys_verify_tokens_and_are_fetched_once(issuer: Issuer, key: Any, algorithm: str, kid: str) -> None:
    verifier = verifier_of(issuer)
    for _ in range(3):
        assert verifier.user_id(signed(key, algorithm, kid)) == ADMIN
    assert issuer.fetches == 1


def test_a_secret_and_public_keys_may_be_trusted_at_once(issuer: Issuer) -> None:
    verifier = verifier_of(issuer, SECRET)
    assert verifier.user_id(signed()) == verifier.user_id(signed(EC_KEY, "ES256", "ec")) == ADMIN


def test_a_public_key_is_never_taken_for_a_secret(issuer: Issuer) -> None:
    """The classic confusion: HS256 over the text of the RSA public key, which every caller has."""
    public = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    header = {"alg": "HS256", "kid": "rsa"}
    unsigned = by_hand(header, claims()).rpartition(".")[0]
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(unsigned.encode(), public)
    token = f"{unsigned}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    for secret in (None, SECRET):
        with pytest.raises(Unauthorized):
            verifier_of(issuer, secret).user_id(token)


def test_an_algorithm_must_fit_the_key_that_is_named(issuer: Issuer) -> None:
    issuer.keys.append({"kty": "oct", "kid": "oct", "k": base64.urlsafe_b64encode(SECRET.encode()).decode()})
    verifier = verifier_of(issuer)
    for token in (
        signed(EC_KEY, "ES256", "rsa"),
        signed(RSA_KEY, "RS256", "ec"),
        signed(RSA_KEY, "RS512", "rsa"),
        signed(SECRET, "HS256", "oct"),
        signed(OTHER_EC_KEY, "ES256", "ec"),
        signed(EC_KEY, "ES256"),
    ):
        with pytest.raises(Unauthorized):
            verifier.user_id(token)


def test_rotated_key_is_found_and_unknown_ids_cost_one_fetch(issuer: Issuer) -> None:
    verifier = verifier_of(issuer, pause_s=0.2)
    assert verifier.user_id(signed(EC_KEY, "ES256", "ec")) == ADMIN
    issuer.keys = [jwk(OTHER_EC_KEY, "new")]
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            assert verifier.user_id(signed(OTHER_EC_KEY, "ES256", "new")) == ADMIN
            break
        except Unauthorized:
            continue
    else:
        pytest.fail("the new key was never fetched")
    with pytest.raises(Unauthorized):
        verifier.user_id(signed(EC_KEY, "ES256", "ec"))

    patient = verifier_of(issuer, pause_s=60)
    patient.user_id(signed(OTHER_EC_KEY, "ES256", "new"))
    before = issuer.fetches
    for number in range(20):
        with pytest.raises(Unauthorized):
            patient.user_id(signed(EC_KEY, "ES256", f"made up {number}"))
    assert issuer.fetches == before


def test_an_issuer_that_is_away_is_503_then_recovers(make_api: ApiMaker, issuer: Issuer) -> None:
    api = make_api(verifier=verifier_of(issuer, pause_s=0.0))
    token = {"Authorization": f"Bearer {signed(EC_KEY, 'ES256', 'ec')}"}
    issuer.healthy = False
    response = api.get("/v1/videos", headers=token)
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert "keys" in response.json()["detail"]
    issuer.healthy = True
    assert api.get("/v1/videos", headers=token).status_code == 200
    issuer.healthy = False
    assert api.get("/v1/videos", headers=token).status_code == 200, "keys once fetched outlast a short outage"


def test_an_issuer_that_is_away_is_not_asked_again_at_once() -> None:
    keys = PublicKeys("http://127.0.0.1:9/jwks.json", timeout_s=2.0)
    for _ in range(2):
        with pytest.raises(KeysUnavailable):
            keys.get_signing_key("any")
    with Issuer().running() as issuer:
        issuer.healthy = False
        paused = PublicKeys(issuer.url)
        for _ in range(5):
            with pytest.raises(KeysUnavailable):
                paused.get_signing_key("any")
        assert issuer.fetches == 1


def test_what_is_no_key_set_counts_as_away(issuer: Issuer) -> None:
    issuer.keys = []
    with pytest.raises(KeysUnavailable):
        verifier_of(issuer).user_id(signed(EC_KEY, "ES256", "ec"))


def test_an_admin_is_whoever_is_named(make_api: ApiMaker) -> None:
    nobody = TokenVerifier(AuthRules(SECRET, None, frozenset()))
    assert make_api(verifier=nobody).get("/v1/admin/overview", headers=headers(ADMIN)).status_code == 403
    named = TokenVerifier(AuthRules(SECRET, None, frozenset({UUID(str(ALICE).upper())})))
    assert make_api(verifier=named).get("/v1/admin/overview", headers=headers(ALICE)).status_code == 200


def test_token_of_the_command_obeys_the_rules(heimdex: Heimdex) -> None:
    rules = {"HEIMDEX_JWT_SECRET": SECRET, "HEIMDEX_JWT_ISSUER": "https://me", "HEIMDEX_JWT_MAX_LIFETIME_S": "600"}
    done = heimdex("token", "--sub", str(ALICE), settings=rules)
    assert done.returncode == 0, done.stderr
    verifier = TokenVerifier(AuthRules(SECRET, None, frozenset(), issuer="https://me", max_lifetime_s=600))
    assert verifier.user_id(done.stdout.decode().strip()) == ALICE
