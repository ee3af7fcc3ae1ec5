"""Verifies the tokens of callers and distinguishes admins from users.

Tokens are Supabase's (https://supabase.com/docs/guides/auth/jwts): HS256 with a shared secret, or ES256/RS256
with a public key from a JWKS URL. Each algorithm belongs to one kind of key, so that a token can never choose
how it is verified (RFC 8725, section 3.1). When those keys are fetched is ``public_keys``'; where in a request
tokens are, and on which routes, is ``guards``'.
"""

import base64
import json
import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NoReturn
from uuid import UUID

import jwt

from cluster.contracts.channels import is_protected
from cluster.contracts.errors import ConfigurationError
from serve_app.development_tokens import AUDIENCE, SHARED_SECRET_ALGORITHM
from serve_app.error_responses import Unauthorized
from serve_app.public_keys import PublicKeys

ANONYMOUS_ROLE = "anon"
"""The role of Supabase's public key, which every page carries."""
PUBLIC_KEY_ALGORITHMS = ("ES256", "RS256")
LEEWAY = timedelta(seconds=5)
"""Largest difference between this machine's clock and the issuer's."""
MIN_SECRET_BYTES = 32
"""RFC 7518, section 3.2: a key of at least the hash's size."""
_THREE_PARTS = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_TIMES = ("exp", "nbf", "iat")


@dataclass(frozen=True)
class AuthRules:
    """Which keys are trusted, what tokens must say, and who is an admin.

    At least one of ``jwt_secret`` and ``jwks_url`` is set. ``previous_secret`` signs valid tokens too while the secret
    is being changed. ``issuer``: the ``iss`` of every token; None: any or none. ``max_lifetime_s``: the longest time
    between ``iat`` and ``exp``; None: any.
    """

    jwt_secret: str | None = field(repr=False)
    jwks_url: str | None = field(repr=False)
    admin_user_ids: frozenset[UUID]
    previous_secret: str | None = field(default=None, repr=False)
    issuer: str | None = None
    max_lifetime_s: float | None = None

    def __post_init__(self) -> None:
        if self.jwt_secret is None and self.jwks_url is None:
            raise ConfigurationError(
                "set HEIMDEX_JWT_SECRET or HEIMDEX_JWKS_URL: without a key no token can be verified"
            )
        for name, secret in (("SECRET", self.jwt_secret), ("PREVIOUS_SECRET", self.previous_secret)):
            if secret is not None and len(secret.encode()) < MIN_SECRET_BYTES:
                raise ConfigurationError(f"HEIMDEX_JWT_{name} must have at least {MIN_SECRET_BYTES} bytes")
        if self.jwks_url is not None and not is_protected(self.jwks_url):
            raise ConfigurationError("HEIMDEX_JWKS_URL must be an https URL, or an http URL of this machine itself")


class StrictTokens(jwt.PyJWT):
    """Tokens in one spelling only: nothing named twice, times that are numbers, no padding, no extensions.

    Where two programs may read a token differently, it is not for this one to choose.
    """

    def header(self, token: str) -> dict[str, Any]:
        """The header of a token whose signature has not been checked yet; raises ``jwt.DecodeError``."""
        if not _THREE_PARTS.fullmatch(token):
            raise jwt.DecodeError
        jwt.get_unverified_header(token)  # says what is wrong with it in JOSE's terms
        part = token.partition(".")[0]
        header = _object(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        if "crit" in header or "b64" in header:
            raise jwt.DecodeError
        return header

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        claims = _object(decoded["payload"])
        if any(type(claims.get(name, 0)) not in (int, float, type(None)) for name in _TIMES):
            raise jwt.DecodeError
        return claims


def _object(text: bytes) -> dict[str, Any]:
    """A JSON object in UTF-8 whose objects name nothing twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError
        return found

    def never(_constant: str) -> NoReturn:
        raise ValueError

    try:
        found = json.loads(text.decode(), object_pairs_hook=once, parse_constant=never)
    except (ValueError, RecursionError):
        raise jwt.DecodeError from None
    if not isinstance(found, dict):
        raise jwt.DecodeError
    return found


class TokenVerifier:
    """Verifies tokens by the rules it was made with; safe to share between threads."""

    def __init__(self, rules: AuthRules, public_keys: PublicKeys | None = None) -> None:
        self._rules = rules
        self._tokens = StrictTokens()
        self._public_keys = public_keys
        if public_keys is None and rules.jwks_url is not None:
            self._public_keys = PublicKeys(rules.jwks_url)

    def user_id(self, token: str) -> UUID:
        """The user that a valid token names (its ``sub``).

        Raises:
            Unauthorized: the token is not valid; the sentence says why.
            KeysUnavailable: the issuer's keys are needed and cannot be had.
        """
        try:
            claims = self._verified(token, self._tokens.header(token))
        except jwt.ExpiredSignatureError:
            raise Unauthorized("The token has expired.") from None
        except jwt.InvalidAudienceError:
            raise Unauthorized(f"The token is not meant for this service: its audience must be '{AUDIENCE}'.") from None
        except jwt.InvalidIssuerError:
            raise Unauthorized("The token's 'iss' is not the issuer that is trusted here.") from None
        except jwt.MissingRequiredClaimError as error:
            raise Unauthorized(f"The token has no '{error.claim}'.") from None
        except jwt.PyJWTError:
            raise Unauthorized("The token is not valid.") from None
        self._check_role(claims)
        self._check_lifetime(claims)
        return _uuid(claims["sub"])

    def _verified(self, token: str, header: dict[str, Any]) -> dict[str, Any]:
        """The claims; of a token that the secret did not sign, by the one before it."""
        try:
            return self._decoded(token, header, self._key(header))
        except jwt.InvalidSignatureError:
            if header["alg"] != SHARED_SECRET_ALGORITHM or self._rules.previous_secret is None:
                raise
            return self._decoded(token, header, self._rules.previous_secret)

    def _decoded(self, token: str, header: dict[str, Any], key: str | jwt.PyJWK) -> dict[str, Any]:
        claims: dict[str, Any] = self._tokens.decode(
            token,
            key,
            algorithms=[header["alg"]],
            audience=AUDIENCE,
            issuer=self._rules.issuer,
            leeway=LEEWAY,
            options={"require": ["exp", "sub", "aud"]},
        )
        return claims

    def _check_role(self, claims: dict[str, Any]) -> None:
        role = claims.get("role", AUDIENCE)
        if not isinstance(role, str) or role.strip().lower() == ANONYMOUS_ROLE:
            raise Unauthorized(f"A token of the role '{ANONYMOUS_ROLE}' names no user: sign in.")

    def _check_lifetime(self, claims: dict[str, Any]) -> None:
        longest_s = self._rules.max_lifetime_s
        if longest_s is None:
            return
        if claims.get("iat") is None:
            raise Unauthorized("The token has no 'iat'.")
        if int(claims["exp"]) - int(claims["iat"]) > longest_s:
            raise Unauthorized(f"The token is valid for longer than {longest_s:g} s after its 'iat'.")

    def is_admin(self, user_id: UUID) -> bool:
        """Whether the user may read the admin metrics."""
        return user_id in self._rules.admin_user_ids

    def _key(self, header: dict[str, Any]) -> str | jwt.PyJWK:
        """The one key that a token with this header may have been signed with.

        The algorithm is compared with what the key is for before it is used, never taken from the token.
        """
        algorithm = header.get("alg")
        if algorithm == SHARED_SECRET_ALGORITHM and self._rules.jwt_secret is not None:
            return self._rules.jwt_secret
        kid = header.get("kid")
        if self._public_keys is not None and isinstance(kid, str) and algorithm in PUBLIC_KEY_ALGORITHMS:
            key = self._public_keys.get_signing_key(kid)
            if key.algorithm_name == algorithm:
                return key
        raise Unauthorized("The token is not signed with a key that is trusted here.")


def _uuid(sub: str) -> UUID:
    """``sub`` as UUID, in its canonical spelling only."""
    try:
        user_id = UUID(sub)
    except ValueError:
        user_id = None
    if user_id is None or str(user_id) != sub.lower():
        raise Unauthorized("The token's 'sub' is not a UUID.")
    return user_id
