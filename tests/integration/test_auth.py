"""Who gets in: tokens of every kind against the real verifier, keys from a real HTTP server."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import jwt
import pytest
from api_client import ADMIN, ALICE, SECRET, ApiMaker, headers
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from starlette.testclient import TestClient

from cluster.contracts.errors import ConfigurationError
from serve_app.app import ADMIN_ROUTES, USER_ROUTES
from serve_app.auth import AuthRules, PublicKeys, TokenVerifier, mint_token
from serve_app.error_responses import KeysUnavailable, Unauthorized

ISSUED = {"aud": "authenticated", "sub": str(ADMIN)}
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
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


def tampered() -> str:
    head, _, signature = signed(sub=str(ALICE)).split(".")
    return ".".join([head, signed().split(".")[1], signature])


BAD_TOKENS = {
    "garbage": "garbage",
    "three dots": "a.b.c",
    "not ascii": "é.é.é",
    "expired": signed(exp=int(time.time()) - 60),
    "not yet valid": signed(nbf=int(time.time()) + 3600),
    "wrong audience": signed(aud="anon"),
    "no audience": signed(aud=None),
    "wrong key": signed("another secret of at least thirty-two bytes"),
    "tampered": tampered(),
    "alg none": by_hand({"alg": "none", "typ": "JWT"}, claims()),
    "alg NONE": by_hand({"alg": "NONE", "typ": "JWT"}, claims()),
    "alg a list": by_hand({"alg": ["HS256"]}, claims()),
    "no alg": by_hand({"typ": "JWT"}, claims()),
    "HS384": signed(SECRET + SECRET, "HS384"),
    "RS256 without JWKS": signed(RSA_KEY, "RS256", "rsa"),
    "missing exp": signed(exp=None),
    "missing sub": signed(sub=None),
    "sub not a UUID": signed(sub="admin"),
    "sub with braces": signed(sub="{" + str(ADMIN) + "}"),
    "sub a number": by_hand({"alg": "HS256"}, claims(sub=7)),
    "header nested deep": by_hand({"alg": "HS256"}, {}).replace(".", "") + "." + "W1tb" * 5000 + ".x",
}


def path_of(path: str) -> str:
    return path.format(user_id=ADMIN, video_id=ADMIN)


GUARDED = [(method, path_of(path)) for method, path, _, _ in ADMIN_ROUTES + USER_ROUTES]
ADMIN_PATHS = [path_of(path) for _, path, _, _ in ADMIN_ROUTES]


def test_no_route_answers_without_a_token(api: TestClient) -> None:
    for method, path in GUARDED:
        for sent in ({}, {"Authorization": ""}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}):
            response = api.request(method, path, headers=sent)
            assert response.status_code == 401, (method, path, sent)
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.json()["detail"].startswith("A bearer token is required")


def test_no_guarded_route_accepts_a_bad_token(api: TestClient) -> None:
    for method, path in GUARDED:
        for name, token in BAD_TOKENS.items():
            response = api.request(method, path, headers={b"Authorization": f"Bearer {token}".encode()})
            assert (response.status_code, list(response.json())) == (401, ["detail"]), (name, path)
            assert response.headers["www-authenticate"] == "Bearer"


def test_admin_routes_refuse_a_user_who_is_no_admin(api: TestClient) -> None:
    for path in ADMIN_PATHS:
        response = api.get(path, headers=headers(ALICE))
        assert response.status_code == 403, path
        assert "not an admin" in response.json()["detail"]


def test_a_token_is_judged_before_the_parameters(api: TestClient) -> None:
    assert api.get("/v1/admin/performance/rtf?range=forever").status_code == 401


def test_the_reason_is_named(api: TestClient) -> None:
    def detail(token: str) -> str:
        response = api.get("/v1/videos", headers={"Authorization": f"Bearer {token}"})
        return str(response.json()["detail"])

    assert detail(BAD_TOKENS["expired"]) == "The token has expired."
    assert "'authenticated'" in detail(BAD_TOKENS["wrong audience"])
    assert "'exp'" in detail(BAD_TOKENS["missing exp"])
    assert "'sub'" in detail(BAD_TOKENS["missing sub"])


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


class Issuer:
    """A JWKS endpoint on 127.0.0.1 whose keys and health a test may change."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.healthy = True
        self.fetches = 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.fetches += 1
                body = json.dumps({"keys": issuer.keys}).encode()
                self.send_response(200 if issuer.healthy else 500)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks.json"

    @contextmanager
    def running(self) -> Iterator["Issuer"]:
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()
            thread.join()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer().running() as running:
        running.keys = [jwk(EC_KEY, "ec"), jwk(RSA_KEY, "rsa")]
        yield running


def jwk(key: Any, kid: str, **more: str) -> dict[str, Any]:
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig", **more}


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
    """The classic confusion: HS256 over the text of the RSA public key, which everybody has."""
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


def test_a_rotated_key_is_found_and_made_up_key_ids_cost_one_fetch(issuer: Issuer) -> None:
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
