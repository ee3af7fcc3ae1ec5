"""What the routes work with, handed to them by their application, and the parameters that they share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query, Request

from cluster.contracts.quotas import NO_QUOTAS, OwnerQuotas, SubmissionLimits
from cluster.contracts.uri_prefixes import HttpRules, UriPrefix
from cluster.search.service import SearchService
from cluster.store.postgres.connections import Pool
from cluster.store.queue.worker_registry import SEEN_WITHIN_S
from serve_app.auth import TokenVerifier
from serve_app.limits import DEFAULT_LIMITS, ApiLimits
from serve_app.schemas.strict_values import Digits


@dataclass(frozen=True)
class ApiParts:
    """The parts of one application.

    ``allowed_schemes``: URI schemes that ``POST /v1/videos`` accepts; ``uri_prefixes``: folders of object stores that
    it accepts besides. ``cors_origins``: origins whose pages may call from a browser. ``limits``: what a request and an
    owner may ask for; ``quotas``: what is processed for one owner. ``worker_silence_s``: a worker not seen for longer
    counts as gone. ``check_engine`` raises SearchUnavailable while the engine beside Postgres that finds the scenes, if
    there is one, is away. ``documented``: whether /docs and /openapi.json are there. ``health_pool``: sessions that
    readiness is asked by; None: ``pool``'s.
    """

    pool: Pool
    verifier: TokenVerifier
    search: SearchService
    allowed_schemes: frozenset[str]
    uri_prefixes: tuple[UriPrefix, ...] = ()
    cors_origins: tuple[str, ...] = ()
    limits: ApiLimits = DEFAULT_LIMITS
    quotas: OwnerQuotas = NO_QUOTAS
    worker_silence_s: float = SEEN_WITHIN_S
    check_engine: Callable[[], None] | None = None
    documented: bool = True
    health_pool: Pool | None = None

    @property
    def http_rules(self) -> HttpRules:
        """What may be submitted."""
        return HttpRules(self.allowed_schemes, self.uri_prefixes)

    @property
    def submission_limits(self) -> SubmissionLimits:
        """What one owner may ask for."""
        return SubmissionLimits(self.limits.submissions_per_minute, self.quotas)


def parts_of(request: Request) -> ApiParts:
    """The parts of the application that serves this request."""
    parts: ApiParts = request.app.state.parts
    return parts


Parts = Annotated[ApiParts, Depends(parts_of)]

Page = Annotated[int, Query(ge=1, le=1_000_000, description="Page number, from 1."), Digits]
PageSize = Annotated[int, Query(ge=1, le=100, description="Items per page."), Digits]
