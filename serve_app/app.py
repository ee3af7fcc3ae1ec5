"""The HTTP application around its route table, and the Ray Serve deployment around it.

``build_api`` makes the FastAPI application from its parts, with or without Ray. ``build_app`` is the Serve
application (``serve.yaml``); a replica opens its own database pool and loads its own models.
"""

from dataclasses import dataclass, field, fields
from functools import partial
from inspect import iscoroutinefunction
from typing import Any

import ray
from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from ray import serve
from ray.serve import Application, Deployment
from starlette.types import ASGIApp

from cluster import __version__
from cluster.contracts.errors import ConfigurationError
from cluster.contracts.quotas import NO_QUOTAS, OwnerQuotas
from cluster.contracts.search import EngineAddress
from cluster.contracts.uri_prefixes import HttpRules
from cluster.files.fetch_limits import http_rules
from cluster.search.active_models import ModelName
from cluster.search.fusion import Weights
from cluster.search.query_models import ModelLoaders, QueryModels
from cluster.search.service import SearchService
from cluster.security.audit_lines import audit_to_stderr
from cluster.security.log_output import LogConfig, set_up_logging
from cluster.security.private_files import set_private_umask
from cluster.security.visible import guard_output
from cluster.settings import load_settings
from cluster.store.opensearch.client import check_engine, open_client
from cluster.store.search.engines import index_opener
from serve_app import api_document, error_responses
from serve_app.admin_reads import AdminReads
from serve_app.answer_headers import AnswerHeaders
from serve_app.auth import AuthRules, TokenVerifier
from serve_app.callers import CallerLimits, OwnersWork, SearchTurns
from serve_app.guards import AdminRoute, UserRoute, bearer_scheme
from serve_app.json_answers import answering
from serve_app.limits import ApiLimits, LimitedRequests
from serve_app.parts import ApiParts
from serve_app.pools import SEARCH_TIMEOUT_S, open_api_pool, open_health_pool, open_search_pool
from serve_app.route_table import ADMIN_ROUTES, OPEN_ROUTES, USER_ROUTES, Endpoint
from serve_app.routes.documentation import add_documentation
from serve_app.routes.health import ReadinessProbe
from serve_app.schemas.uri_patterns import uri_pattern

ENGINE_WAIT_S = 5.0
"""Time that the search engine may take to say that it is there."""


class _Api(FastAPI):
    """The application whose every answer has the headers of ``answer_headers``, also those of what fails in it."""

    def build_middleware_stack(self) -> ASGIApp:
        return AnswerHeaders(super().build_middleware_stack())


def build_api(parts: ApiParts) -> FastAPI:
    """The application that serves ``parts``. It closes nothing: the caller that opened the pool closes it."""
    api = _Api(
        title="Heimdex Cluster",
        version=__version__,
        description="Videos in, searchable and exactly measured scenes out.",
        redirect_slashes=False,
        openapi_url="/openapi.json" if parts.documented else None,
        docs_url=None,  # FastAPI's own pages load from other hosts
        redoc_url=None,
    )
    api.state.parts = parts
    api.state.admin_reads = AdminReads(parts.pool)
    error_responses.install(api)
    api_document.install(api, uri_pattern(parts.http_rules))
    api.state.search_turns = SearchTurns(parts.limits)
    api.state.readiness = ReadinessProbe(parts)
    api.add_middleware(CallerLimits, verifier=parts.verifier, limits=parts.limits)
    api.add_middleware(LimitedRequests, limits=parts.limits)
    if parts.cors_origins:
        api.add_middleware(
            CORSMiddleware,
            allow_origins=parts.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key"],
            expose_headers=["Content-Disposition", "Retry-After"],
        )
    _add(api, "admin", ADMIN_ROUTES, AdminRoute)
    _add(api, "videos", USER_ROUTES, UserRoute, OwnersWork())
    _add(api, "health", OPEN_ROUTES)
    if parts.documented:
        add_documentation(api)
    return api


def _add(
    api: FastAPI,
    tag: str,
    routes: list[Endpoint],
    guarded: type[UserRoute] | None = None,
    work: OwnersWork | None = None,
) -> None:
    usual = error_responses.EVERYWHERE
    if guarded is not None:
        usual = usual | error_responses.GUARDED
    if guarded is AdminRoute:
        usual = usual | {403}
    for route in routes:
        function, method, status = route.function, route.method, route.status
        on_loop = iscoroutinefunction(function)
        answered = function if on_loop else answering(function, status, None if work is None else work.of(method))
        api.router.add_api_route(
            route.path,
            answered,
            methods=[method],
            status_code=status,
            tags=[tag],
            response_model=route.response_model,
            route_class_override=route.route_class or guarded,
            dependencies=[Depends(bearer_scheme)] if guarded else [],
            responses={**error_responses.describe(*sorted(usual | route.errors)), **route.responses},
            openapi_extra=route.request_body,
        )


@dataclass(frozen=True)
class ReplicaConfig:
    """What a replica is made from; small, since it travels to wherever the replica starts."""

    database_url: str = field(repr=False)
    auth: AuthRules
    cors_origins: tuple[str, ...]
    http_rules: HttpRules
    limits: ApiLimits
    vision: ModelName
    text: ModelName
    weights: Weights
    engine: EngineAddress | None = None
    documented: bool = True
    quotas: OwnerQuotas = NO_QUOTAS
    log: LogConfig | None = None


class ApiReplica:
    """One replica of the HTTP application: a database pool, the models that read queries, the routes."""

    def __init__(self, config: ReplicaConfig) -> None:
        from serve_app.loopback import stay_on_loopback

        set_private_umask()
        stay_on_loopback()
        guard_output()
        audit_to_stderr()
        if config.log is not None:
            set_up_logging(config.log, process="http", node=ray.util.get_node_ip_address())
        self._pool = open_api_pool(config.database_url, config.limits.request_timeout_s)
        self._searching = open_search_pool(config.database_url)
        self._watching = open_health_pool(config.database_url)
        loaders = ModelLoaders.on_cpu(config.vision, config.text, threads=1)
        models = QueryModels(self._pool, loaders, ahead=True, searching=self._searching)
        index = index_opener(self._searching, config.engine, SEARCH_TIMEOUT_S)
        self._parts = ApiParts(
            pool=self._pool,
            verifier=TokenVerifier(config.auth),
            search=SearchService(index, models, self._searching, config.weights),
            check_engine=None
            if config.engine is None
            else partial(check_engine, open_client(config.engine, ENGINE_WAIT_S)),
            allowed_schemes=config.http_rules.schemes,
            uri_prefixes=config.http_rules.prefixes,
            cors_origins=config.cors_origins,
            limits=config.limits,
            documented=config.documented,
            health_pool=self._watching,
            quotas=config.quotas,
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_api(self._parts)

    async def check_health(self) -> None:
        """Runs on the application's event loop, so a loop that hangs is found out and the replica replaced.

        The database is left out: its outage is reported by /readyz and heals without a restart.
        """

    def __del__(self) -> None:
        for name in ("_pool", "_searching", "_watching"):
            pool = getattr(self, name, None)
            if pool is not None:
                pool.close()


api_deployment: Deployment = serve.deployment(
    name="api",
    num_replicas=1,
    max_ongoing_requests=1000,  # as many as there are connections; who asks for too much is refused by us
    max_constructor_retry_count=3,
    ray_actor_options={"num_cpus": 0.1},
    health_check_period_s=10,
    health_check_timeout_s=30,
)(serve.ingress()(ApiReplica))


def build_app(args: dict[str, Any]) -> Application:
    """The Serve application, from the HEIMDEX_* settings of the process that deploys it.

    ``args`` (from serve.yaml or the launcher) replace settings of the same name, such as ``database_url``.

    Raises:
        ConfigurationError: a setting is missing or wrong; the sentence names it.
    """
    settings = load_settings(**args)
    urls = settings.database_urls
    if urls is None:
        raise ConfigurationError(
            "HEIMDEX_DATABASE_URL is not set: deployed without the cluster, the HTTP side needs the URL of the database"
        )
    config = ReplicaConfig(
        database_url=urls.api,
        auth=AuthRules(
            settings.resolved_jwt_secret,
            settings.jwks_url,
            settings.resolved_admin_user_ids,
            previous_secret=settings.jwt_previous_secret,
            issuer=settings.jwt_issuer,
            max_lifetime_s=settings.jwt_max_lifetime_s,
        ),
        cors_origins=settings.cors_origins,
        http_rules=http_rules(settings),
        vision=ModelName(*settings.clip_on(), chosen=settings.clip_is_chosen),
        text=ModelName(settings.text_model),
        weights=settings.search_weights,
        engine=settings.search_engine,
        limits=ApiLimits(**{limit.name: getattr(settings, limit.name) for limit in fields(ApiLimits)}),
        documented=settings.http_docs,
        quotas=settings.owner_quotas,
        log=settings.log_config,
    )
    return api_deployment.bind(config)
