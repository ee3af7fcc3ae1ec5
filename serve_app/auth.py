"""Who is asking: verifies bearer tokens and tells admins from users.

Tokens are Supabase's (https://supabase.com/docs/guides/auth/jwts): HS256 with a shared secret, or ES256/RS256
with a public key from a JWKS URL. Each algorithm belongs to one kind of key, so that a token can never choose
how it is verified (RFC 8725, section 3.1). What a user may read is left to the routes.
"""

import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

import jwt
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from cluster.contracts.errors import ConfigurationError
from serve_app.error_responses import Forbidden, KeysUnavailable, Unauthorized

AUDIENCE = "authenticated"
SHARED_SECRET_ALGORITHM = "HS256"
PUBLIC_KEY_ALGORITHMS = ("ES256", "RS256")
LEEWAY = timedelta(seconds=5)
"""How far this machine's clock may be from the issuer's."""
MIN_SECRET_BYTES = 32
"""RFC 7518, section 3.2: a key of at least the hash's size."""

bearer_scheme = HTTPBearer(
    auto_error=False,
    bearerFormat="JWT",
    description="A Supabase access token, or one from `heimdex token --sub UUID`.",
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_scheme)]


@dataclass(frozen=True)
class AuthRules:
    """Which keys are trusted and who is an admin. At least one of ``jwt_secret`` and ``jwks_url`` is set."""

    jwt_secret: str | None = field(repr=False)
    jwks_url: str | None
    admin_user_ids: frozenset[UUID]

    def __post_init__(self) -> None:
        if self.jwt_secret is None and self.jwks_url is None:
            raise ConfigurationError(
                "set HEIMDEX_JWT_SECRET or HEIMDEX_JWKS_URL: without a key no token can be verified"
            )
        if self.jwt_secret is not None and len(self.jwt_secret.encode()) < MIN_SECRET_BYTES:
            raise ConfigurationError(f"HEIMDEX_JWT_SECRET must have at least {MIN_SECRET_BYTES} bytes")
        if self.jwks_url is not None and not self.jwks_url.startswith(("https://", "http://")):
            raise ConfigurationError("HEIMDEX_JWKS_URL must be an http or https URL")


class PublicKeys(jwt.PyJWKClient):
    """The issuer's public keys, cached for five minutes.

    A ``kid`` that is not among them is looked for once more at the issuer, but at most every ``pause_s``; so
    are fetches that failed. Tokens with made-up key ids therefore cannot turn this server into a flood on the
    issuer, nor can an issuer that hangs keep every request waiting.
    """

    def __init__(self, url: str, *, timeout_s: float = 5.0, pause_s: float = 10.0) -> None:
        super().__init__(url, timeout=timeout_s, lifespan=300, cooldown_duration=pause_s)
        self._pause_s = pause_s
        self._failed_at: float | None = None

    def fetch_data(self) -> Any:
        """Fetch the key set.

        Raises:
            KeysUnavailable: the issuer does not answer, or not with a key set; or it just did so.
        """
        if self._failed_at is not None and time.monotonic() - self._failed_at < self._pause_s:
            raise KeysUnavailable
        try:
            keys = super().fetch_data()
        except (jwt.PyJWTError, OSError, ValueError) as error:
            self._failed_at = time.monotonic()
            raise KeysUnavailable from error
        self._failed_at = None
        return keys


class TokenVerifier:
    """Verifies tokens by the rules it was made with; safe to share between threads."""

    def __init__(self, rules: AuthRules, public_keys: PublicKeys | None = None) -> None:
        self._rules = rules
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
            header = jwt.get_unverified_header(token)
            claims = jwt.decode(
                token,
                self._key(header),
                algorithms=[header["alg"]],
                audience=AUDIENCE,
                leeway=LEEWAY,
                options={"require": ["exp", "sub", "aud"]},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthorized("The token has expired.") from None
        except jwt.InvalidAudienceError:
            raise Unauthorized(f"The token is not meant for this service: its audience must be '{AUDIENCE}'.") from None
        except jwt.MissingRequiredClaimError as error:
            raise Unauthorized(f"The token has no '{error.claim}'.") from None
        except jwt.PyJWTError:
            raise Unauthorized("The token is not valid.") from None
        return _uuid(claims["sub"])

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


def current_user(request: Request, credentials: Credentials) -> UUID:
    """The user that the request's token names.

    A plain function, which runs on a thread: fetching keys must not block the event loop.
    """
    if credentials is None:
        raise Unauthorized("A bearer token is required: send 'Authorization: Bearer <token>'.")
    verifier: TokenVerifier = request.app.state.parts.verifier
    return verifier.user_id(credentials.credentials)


CurrentUser = Annotated[UUID, Depends(current_user)]


def require_admin(request: Request, user_id: CurrentUser) -> None:
    """Let only admins pass."""
    verifier: TokenVerifier = request.app.state.parts.verifier
    if not verifier.is_admin(user_id):
        raise Forbidden("This user is not an admin (HEIMDEX_ADMIN_USER_IDS).")


def mint_token(secret: str, sub: UUID, lifetime: timedelta) -> str:
    """A token for ``sub``, signed with the shared secret, valid from now for ``lifetime``."""
    now = int(time.time())
    claims = {
        "sub": str(sub),
        "aud": AUDIENCE,
        "role": AUDIENCE,
        "iat": now,
        "exp": now + int(lifetime.total_seconds()),
    }
    return jwt.encode(claims, secret, algorithm=SHARED_SECRET_ALGORITHM)
