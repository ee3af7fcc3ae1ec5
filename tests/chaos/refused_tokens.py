"""Bad tokens on every guarded route, and the proof that none of them reads or changes anything.

Owns what counts as a violation: another answer than 401 (for a good token of a user who is no admin, on an admin's
route: 403), an answer in another shape, a database session that is borrowed, a question to an address that the token
names; and a good token that is refused, for then nothing would be proven. The tokens are ``bad_tokens``'.
"""

import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from starlette.testclient import TestClient

from cluster.search.service import SearchService
from cluster.store.postgres.connections import EmbeddedPostgres, Pool, open_pool
from cluster.store.postgres.migrations import apply_migrations
from cluster.store.search.engines import index_opener
from serve_app.app import build_api
from serve_app.auth import AuthRules, TokenVerifier
from serve_app.limits import DEFAULT_LIMITS
from serve_app.parts import ApiParts
from serve_app.public_keys import PublicKeys
from serve_app.route_table import ADMIN_ROUTES, USER_ROUTES
from tests.chaos.bad_tokens import Signer, Tokens
from tests.chaos.token_issuer import KEY_SET_PATH, Issuer
from tests.support.api_client import ADMIN, ALICE, SECRET, make_picture, query_models

BODIES: dict[str, Any] = {
    "/v1/videos": {"uri": "https://example.org/a.mp4"},
    "/v1/admin/failures/retry": {"all": True},
    "/v1/admin/videos/cancel": {"ids": [str(ADMIN)]},
    "/v1/search/image": make_picture(),
}
Headers = list[tuple[bytes, bytes]]

UNHURRIED = replace(DEFAULT_LIMITS, requests_per_minute=10**9, searches_per_minute=10**9, anonymous_per_minute=10**9)
"""Nothing is refused for its rate, so that each refusal is the guards'."""


@dataclass(frozen=True)
class Counts:
    """The outcome of the tokens; a case is one request."""

    cases: int
    violations: list[str]


@dataclass(frozen=True)
class GuardedRoute:
    """A route that wants a token, filled in so that a good one finds something to do."""

    method: str
    path: str
    for_admins: bool
    body: Any

    @property
    def url(self) -> str:
        """Its path with what it needs to be asked for."""
        path = self.path.format(user_id=ADMIN, video_id=ADMIN, scene_id=ADMIN, job_id=ADMIN)
        return path + ("?q=words" if self.path == "/v1/search" else "")

    @property
    def sent(self) -> dict[str, Any]:
        """Its body: a picture as it is, all else as JSON."""
        return {"content": self.body} if isinstance(self.body, bytes) else {"json": self.body}


ROUTES = [
    *(GuardedRoute(route.method, route.path, True, BODIES.get(route.path)) for route in ADMIN_ROUTES),
    *(
        GuardedRoute(route.method, route.path, False, BODIES.get(route.path) if route.method == "POST" else None)
        for route in USER_ROUTES
    ),
]


@dataclass
class Trial:
    """An application whose pool is watched, and what went wrong with it."""

    name: str
    client: TestClient
    pool: Pool
    violations: list[str] = field(default_factory=list)
    cases: int = 0

    def expect(self, status: int, route: GuardedRoute, what: str, headers: Headers, suffix: str = "") -> None:
        """One request that must be answered with ``status`` and read nothing."""
        before = self._sessions()
        self.cases += 1
        answer = self.client.request(route.method, route.url + suffix, headers=headers, **route.sent)
        faults = []
        if answer.status_code != status:
            faults.append(f"{answer.status_code} instead of {status}")
        elif status == 401 and answer.headers.get("www-authenticate") != "Bearer":
            faults.append("without WWW-Authenticate")
        if not _is_one_sentence(answer.json()):
            faults.append(f"answered with {answer.text[:100]}")
        if self._sessions() != before:
            faults.append("the database was asked")
        self.violations += [f"{self.name}, {route.method} {route.path}, {what}: {fault}" for fault in faults]

    def expect_to_pass(self, route: GuardedRoute, headers: Headers) -> None:
        """One request that passes the guard, and of which the watch must see that it reads."""
        before = self._sessions()
        answer = self.client.request(route.method, route.url, headers=headers, **route.sent)
        if answer.status_code in (401, 403) or answer.status_code >= 500 or self._sessions() == before:
            self.violations.append(f"{self.name}, {route.path}: a good token gets {answer.status_code} {answer.text}")

    def _sessions(self) -> int:
        return self.pool.get_stats().get("requests_num", 0)


def run(seed: int, database_url: str | None = None, routes_per_token: int = len(ROUTES)) -> Counts:
    """Try every bad token on every guarded route, or on as many by chance, in an order by chance.

    Keys of all kinds are trusted there; what trusts only one kind is asked on one route by chance. Without a migrated
    database at hand, one is made for the run.
    """
    with ExitStack() as stack:
        issuer = stack.enter_context(Issuer().running())
        if database_url is None:
            database_url = stack.enter_context(_EmptyDatabase())
        pool = stack.enter_context(open_pool(database_url, max_size=4, name="refused-tokens"))
        tokens = Tokens(SECRET, ADMIN, int(time.time()), f"{issuer.origin}/trap")
        rng = random.Random(seed)
        trials = []
        for name, secret, url in (
            ("all keys", SECRET, issuer.url),
            ("secret only", SECRET, None),
            ("key set only", None, issuer.url),
        ):
            rules = AuthRules(secret, url, frozenset({ADMIN}))
            keys = PublicKeys(url, pause_s=3600) if url else None
            trial = Trial(name, stack.enter_context(_client(pool, TokenVerifier(rules, keys))), pool)
            trials.append(trial)
            _try_bad(trial, rng, tokens, routes_per_token if name == "all keys" else 1)
            _try_good(trial, tokens)
        asked = [f"{path} was asked for" for path in set(issuer.paths) - {KEY_SET_PATH}]
        if issuer.fetches > 4:
            asked.append(f"the key set was fetched {issuer.fetches} times")
    return Counts(sum(trial.cases for trial in trials), [*asked, *(fault for t in trials for fault in t.violations)])


def _try_bad(trial: Trial, rng: random.Random, tokens: Tokens, routes_per_token: int) -> None:
    good = [signer.sign(tokens.claims()) for signer in tokens.signers]
    requests: list[tuple[str, Headers, str]] = [
        *((what, _bearer(token), "") for what, token in tokens.bad()),
        *((what, headers, "") for token in good for what, headers in _without_bearer(token)),
        *(("in the address", [], f"{{}}{name}={token}") for token in good for name in ("access_token", "token", "jwt")),
    ]
    cases = [(route, request) for request in requests for route in rng.sample(ROUTES, routes_per_token)]
    rng.shuffle(cases)
    for route, (what, headers, suffix) in cases:
        trial.expect(401, route, what, headers, suffix.format("&" if "?" in route.url else "?"))


def _try_good(trial: Trial, tokens: Tokens) -> None:
    """Good tokens pass where their key is trusted, and a user's no further than a user may go."""
    for signer in tokens.signers:
        for route in ROUTES:
            admin, user = (_bearer(_good(tokens, signer, user_id)) for user_id in (ADMIN, ALICE))
            if not _trusted(trial.name, signer):
                trial.expect(401, route, f"{signer.algorithm}, which is not trusted here", admin)
            elif route.for_admins:
                trial.expect(403, route, f"{signer.algorithm} of a user who is no admin", user)
                trial.expect_to_pass(route, admin)
            else:
                trial.expect_to_pass(route, user)


def _good(tokens: Tokens, signer: Signer, user_id: UUID) -> str:
    return signer.sign(tokens.claims("sub", f'"{user_id}"'))


def _trusted(name: str, signer: Signer) -> bool:
    return name == "all keys" or (name == "secret only") == (signer.algorithm == "HS256")


def _without_bearer(token: str) -> Iterator[tuple[str, Headers]]:
    """A good token where it is none."""
    good = token.encode()
    yield "no token", []
    for value in (b"", b"Bearer", b"Bearer ", b"bearer  ", b"null", b"Bearer null", b"Bearer undefined"):
        yield f"Authorization: {value.decode()}", [(b"Authorization", value)]
    for scheme in (b"Basic ", b"Digest ", b"Token ", b"JWT ", b"Negotiate ", b"Bearer:", b"Bearer=", b"BearerX ", b""):
        yield f"scheme {scheme.decode()}", [(b"Authorization", scheme + good)]
    yield "scheme with a tab", [(b"Authorization", b"Bearer\t" + good)]
    for name in (b"Cookie", b"Proxy-Authorization", b"X-Authorization", b"X-Forwarded-Authorization", b"apikey"):
        yield f"in {name.decode()}", [(name, b"token=" + good if name == b"Cookie" else b"Bearer " + good)]
    yield "a bad one before it", [(b"Authorization", b"Bearer x"), (b"Authorization", b"Bearer " + good)]
    yield "a bad one after it", [(b"Authorization", b"Bearer " + good), (b"Authorization", b"Bearer x")]


def _bearer(token: str) -> Headers:
    return [(b"Authorization", b"Bearer " + token.encode())]


def _is_one_sentence(answer: Any) -> bool:
    return isinstance(answer, dict) and list(answer) == ["detail"] and isinstance(answer["detail"], str)


def _client(pool: Pool, verifier: TokenVerifier) -> TestClient:
    search = SearchService(index_opener(pool), query_models(pool), pool)
    parts = ApiParts(pool, verifier, search, frozenset({"https"}), limits=UNHURRIED)
    return TestClient(build_api(parts), raise_server_exceptions=False)


class _EmptyDatabase(ExitStack):
    """A migrated database on a server of its own."""

    def __enter__(self) -> str:  # type: ignore[override]
        folder = Path(self.enter_context(tempfile.TemporaryDirectory(prefix="heimdex-tokens-")))
        server = EmbeddedPostgres(folder / "postgres")
        self.callback(server.stop)
        server.start()
        apply_migrations(server.url)
        return server.url
