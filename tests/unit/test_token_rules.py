"""Tokens in the verifier alone: none that is bad names a user, whichever way it is bad.

The same tokens against every route are ``test_refused_tokens``'.
"""

import base64
import json
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import jwt
import pytest

from cluster.contracts.errors import ConfigurationError
from serve_app.auth import AuthRules, TokenVerifier
from serve_app.error_responses import Unauthorized
from serve_app.public_keys import PublicKeys
from tests.chaos.bad_tokens import Signer, Tokens
from tests.chaos.token_issuer import Issuer

SECRET = "a secret of the tests, long enough for HS256"
USER = UUID("aaaaaaaa-0000-4000-8000-000000000001")
PUBLISHED = b"a symmetric key that its issuer published by mistake"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer().running() as running:
        yield running


def tokens(issuer: Issuer) -> Tokens:
    return Tokens(SECRET, USER, int(time.time()), f"{issuer.origin}/trap")


def verifier(issuer: Issuer) -> TokenVerifier:
    return TokenVerifier(AuthRules(SECRET, issuer.url, frozenset()), PublicKeys(issuer.url, pause_s=3600))


def is_accepted(verifier: TokenVerifier, token: str) -> bool:
    try:
        verifier.user_id(token)
    except Unauthorized:
        return False
    return True


def test_good_tokens_name_their_user(issuer: Issuer) -> None:
    made = tokens(issuer)
    verify = verifier(issuer)
    assert {verify.user_id(signer.sign(made.claims())) for signer in made.signers} == {USER}


def test_no_bad_token_names_a_user(issuer: Issuer) -> None:
    verify, bad = verifier(issuer), list(tokens(issuer).bad())
    assert len(bad) > 300
    assert [what for what, token in bad if is_accepted(verify, token)] == []


def test_a_key_is_for_one_algorithm(issuer: Issuer) -> None:
    """Said here, before the library is asked, which may or may not look."""
    verify = verifier(issuer)
    assert isinstance(verify._key({"alg": "RS256", "kid": "rsa"}), jwt.PyJWK)
    for algorithm, kid in (("ES256", "rsa"), ("RS256", "ec"), ("HS512", "rsa"), ("none", "ec")):
        with pytest.raises(Unauthorized):
            verify._key({"alg": algorithm, "kid": kid})


@pytest.mark.parametrize("stated", ["HS256", "RS256", "ES256"])
def test_a_symmetric_key_that_was_published_signs_nothing(issuer: Issuer, stated: str) -> None:
    """Every caller could read it in the key set and sign with it, whatever the header calls the algorithm."""
    published = base64.urlsafe_b64encode(PUBLISHED).rstrip(b"=").decode()
    issuer.keys.append({"kty": "oct", "kid": "oct", "alg": "HS256", "k": published})
    header = json.dumps({"alg": stated, "kid": "oct"}).encode()
    token = Signer("HS256", PUBLISHED.decode(), "oct").sign(tokens(issuer).claims(), header)
    assert not is_accepted(verifier(issuer), token)


# What a token must say beside its signature


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    whole = {"sub": str(USER), "aud": "authenticated", "iat": now, "exp": now + 3600, **changed}
    return {name: value for name, value in whole.items() if value is not None}


def signed(secret: str = SECRET, **changed: Any) -> str:
    return jwt.encode(claims(**changed), secret, algorithm="HS256")


def verifier_by(**rules: Any) -> TokenVerifier:
    return TokenVerifier(AuthRules(SECRET, None, frozenset(), **rules))


def reason(verifier: TokenVerifier, token: str) -> str:
    with pytest.raises(Unauthorized) as raised:
        verifier.user_id(token)
    return str(raised.value.detail)


@pytest.mark.parametrize("role", ["authenticated", "service_role", "editor"])
def test_token_of_another_role_names_its_user(role: str) -> None:
    assert verifier_by().user_id(signed(role=role)) == USER


def test_token_of_the_role_anon_is_refused() -> None:
    assert "'anon'" in reason(verifier_by(), signed(role="anon"))
    assert "'anon'" in reason(verifier_by(), signed(role=["anon"]))


def test_issuer_is_required_where_it_is_set() -> None:
    any_issuer, one_issuer = verifier_by(), verifier_by(issuer="https://project.example.org/auth/v1")
    assert any_issuer.user_id(signed()) == any_issuer.user_id(signed(iss="https://other.example.org")) == USER
    assert one_issuer.user_id(signed(iss="https://project.example.org/auth/v1")) == USER
    assert "'iss'" in reason(one_issuer, signed())
    wrong: list[Any] = ["https://other.example.org", "https://project.example.org/auth/v1/", "", 7]
    wrong += [["https://project.example.org/auth/v1"], "HTTPS://project.example.org/auth/v1"]
    assert [iss for iss in wrong if is_accepted(one_issuer, unchecked(iss=iss))] == []


def unchecked(**changed: Any) -> str:
    """A token whose claims the library that signs it does not look at."""
    return Signer("HS256", SECRET).sign(json.dumps(claims(**changed)).encode())


def test_lifetime_is_bounded_where_it_is_set() -> None:
    unbounded, hour = verifier_by(), verifier_by(max_lifetime_s=3600)
    now = int(time.time())
    assert unbounded.user_id(signed(exp=now + 10**9)) == USER
    assert hour.user_id(signed(exp=now + 3600)) == hour.user_id(signed(iat=now - 3000, exp=now + 600)) == USER
    assert "longer than 3600 s" in reason(hour, signed(exp=now + 3601))
    assert "longer than 3600 s" in reason(hour, signed(iat=now - 3590, exp=now + 60))
    assert "'iat'" in reason(hour, signed(iat=None))
    odd: list[dict[str, Any]] = [{"exp": 10**400}, {"exp": 1e300}, {"iat": -(10**400)}, {"iat": 0.5}, {"iat": -1e300}]
    assert [one for one in odd if is_accepted(hour, unchecked(**one))] == []


def test_secret_before_the_change_signs_while_it_is_set() -> None:
    old = "the secret that was used before this one"
    rotating = verifier_by(previous_secret=old)
    assert rotating.user_id(signed()) == rotating.user_id(signed(old)) == USER
    assert not is_accepted(verifier_by(), signed(old))
    assert not is_accepted(rotating, signed("a third secret that was never configured"))
    assert "expired" in reason(rotating, signed(old, exp=int(time.time()) - 60))
    assert "'anon'" in reason(rotating, signed(old, role="anon"))


def test_previous_secret_signs_hs256_alone(issuer: Issuer) -> None:
    old = "the secret that was used before this one"
    rules = AuthRules(SECRET, issuer.url, frozenset(), previous_secret=old)
    verify = TokenVerifier(rules, PublicKeys(issuer.url, pause_s=3600))
    for algorithm, kid in (("RS256", "rsa"), ("ES256", "ec")):
        header = json.dumps({"alg": algorithm, "kid": kid}).encode()
        assert not is_accepted(verify, Signer("HS256", old).sign(tokens(issuer).claims(), header))


def test_rules_with_a_short_or_open_key_are_refused() -> None:
    for url, previous in ((None, "short"), ("http://issuer.example.org/keys", None)):
        with pytest.raises(ConfigurationError):
            AuthRules(SECRET, url, frozenset(), previous_secret=previous)
    assert "hunter2" not in repr(AuthRules(SECRET, None, frozenset(), previous_secret="hunter2" * 5))
