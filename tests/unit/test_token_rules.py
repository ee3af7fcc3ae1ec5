"""What the verifier by itself makes of tokens: none that is bad names a user, whichever way it is bad.

The same tokens against every route are ``test_refused_tokens``'.
"""

import base64
import json
import time
from collections.abc import Iterator
from uuid import UUID

import jwt
import pytest

from serve_app.auth import AuthRules, PublicKeys, TokenVerifier
from serve_app.error_responses import Unauthorized
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
    """Everybody could read it in the key set and sign with it, whatever the header calls the algorithm."""
    published = base64.urlsafe_b64encode(PUBLISHED).rstrip(b"=").decode()
    issuer.keys.append({"kty": "oct", "kid": "oct", "alg": "HS256", "k": published})
    header = json.dumps({"alg": stated, "kid": "oct"}).encode()
    token = Signer("HS256", PUBLISHED.decode(), "oct").sign(tokens(issuer).claims(), header)
    assert not is_accepted(verifier(issuer), token)
