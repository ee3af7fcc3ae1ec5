"""Tokens that this machine signs itself, with the shared secret: for people who try things, and for commands.

Verifying tokens is ``auth``'s, which brings FastAPI along; this module does not, so that commands start quickly.
"""

import time
from datetime import timedelta
from uuid import UUID

import jwt

AUDIENCE = "authenticated"
"""The ``aud`` of every token, as Supabase sets it."""
SHARED_SECRET_ALGORITHM = "HS256"


def mint_token(secret: str, sub: UUID, lifetime: timedelta, issuer: str | None = None) -> str:
    """A token for ``sub``, signed with the shared secret, valid from now for ``lifetime``."""
    now = int(time.time())
    claims = {
        "sub": str(sub),
        "aud": AUDIENCE,
        "role": AUDIENCE,
        "iat": now,
        "exp": now + int(lifetime.total_seconds()),
        **({} if issuer is None else {"iss": issuer}),
    }
    return jwt.encode(claims, secret, algorithm=SHARED_SECRET_ALGORITHM)
