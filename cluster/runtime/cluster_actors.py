"""What of a cluster lives in Ray beyond any command: the scheduler with its workers, and Serve. Started and stopped.

All of it wants a process that is connected to that Ray (``cluster.runtime.ray_driver``), which imports Ray.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from typing import Any

from cluster import __version__
from cluster.contracts.database_url import DatabaseUrls
from cluster.contracts.errors import ConfigurationError, DatabaseUnavailable
from cluster.contracts.events import Event
from cluster.contracts.search import EngineAddress, Retriever
from cluster.contracts.stages import RetryRule
from cluster.runtime.ray_driver import Say
from cluster.security.event_log import EventLog
from cluster.security.log_output import LogConfig, set_up_logging
from cluster.settings import ROLE_URLS, Settings, as_environment, database_environment
from cluster.store.postgres.connections import open_pool
from cluster.store.queue.worker_registry import SEEN_WITHIN_S, seen_workers

logger = EventLog(__name__)

SERVE_APPLICATION = "heimdex"
SCHEDULER_NAME = f"scheduler-{__version__}"
READY_POLL_S = 2.0
BESIDE_S = 30.0
"""Time that what was started beside the workers has to notice that all is stopped."""
GRACE_S = 10.0
"""Time that videos in flight have to finish, unless another is asked for, on a Ray that goes on running."""
PROXY_SLACK_S = 5.0
"""Delay after the application's own limit, reported in its own words, before Serve's proxy gives a request up."""


def import_ahead() -> None:
    """Import what :func:`start_actors` needs."""

    import serve_app.app  # noqa: F401


def start_actors(
    say: Say, settings: Settings, urls: DatabaseUrls, http_port: int, scheduler_name: str | None = None
) -> None:
    """Start the scheduler with its workers, and the HTTP endpoints beside them; returns when all answer.

    What was begun is stopped again when a part does not start. A scheduler of another version is replaced. The leases
    of one that is started carry ``scheduler_name``.

    Raises:
        ConfigurationError: a worker cannot load what it needs, or the endpoints do not start.
    """
    set_up_logging(settings.log_config, process="driver")
    with _undone_on_error(ours=settings.ray_address is None) as beside:
        scheduler = _start_scheduler(settings, urls.worker, say, scheduler_name)
        _start_proxy(settings, http_port)
        start_application = partial(_start_application, settings, urls.api)  # loads models of its own
        if _models_are_agreed(settings, urls.worker):
            beside.append(_beside(start_application))
        _wait_until_ready(say, scheduler, urls.worker)
        if settings.search_engine is not None:
            _ensure_index(say, settings.search_engine, urls.worker)
        say("waiting for the HTTP endpoints")
        (beside[0] if beside else _beside(start_application)).result()


def _models_are_agreed(settings: Settings, database_url: str) -> bool:
    """Whether every process will load the same models: they are set, or scenes were embedded by some.

    Else the vision workers choose by their device, which the endpoints, on a head without a GPU, would not.
    """
    from cluster.store.index.model_registry import SearchModels, State

    with open_pool(database_url, max_size=1, name="heimdex-loading") as pool:
        return settings.clip_is_chosen or Retriever.PICTURE in SearchModels(pool).by_state()[State.ACTIVE]


@contextmanager
def _undone_on_error(*, ours: bool) -> Iterator[list[Future[None]]]:
    """Actors that were started within are stopped again when an error ends it, also by what was started beside it.

    On a Ray of ``ours``, which is ended next, only schedulers are, to hand back what they may have claimed by now.
    """
    from ray import serve
    from ray.exceptions import RayError

    beside: list[Future[None]] = []
    try:
        yield beside
    except BaseException:
        try:
            _stop_schedulers(0.0)
            if not ours:
                serve.shutdown()
                if wait(beside, timeout=BESIDE_S).done:  # it may have started something again
                    serve.shutdown()
        except (RayError, ConnectionError) as error:  # they are gone with their Ray; the first error is raised
            logger.warning(Event.ACTORS_NOT_STOPPED, error=error)
        raise


def _beside(work: Callable[[], None]) -> Future[None]:
    """``work`` in a thread that keeps no process from its end, as :class:`ThreadPoolExecutor`'s would."""
    future: Future[None] = Future()

    def run() -> None:
        try:
            work()
        except BaseException as error:  # raised where the future is read
            future.set_exception(error)
        else:
            future.set_result(None)

    threading.Thread(target=run, name="beside", daemon=True).start()
    return future


def _start_scheduler(settings: Settings, database_url: str, say: Say, scheduler_name: str | None) -> Any:
    """The scheduler's actor; it is ready once its workers have loaded."""
    from actors.scheduler.actor import start_scheduler as start_actor
    from actors.scheduler.scheduler import SchedulerConfig
    from cluster.runtime.plan import Hardware, plan_workers

    _refuse_socket_on_many_nodes(settings)
    plan = plan_workers(settings, database_url, Hardware.of_cluster())
    counts = ", ".join(f"{p.count} {kind.value}" for kind, p in plan.placements.items())
    say(f"loading models: {plan.speech.model} and {plan.vision.model} on {plan.vision.device} ({counts} workers)")
    retired = [name for name in _scheduler_names() if name != SCHEDULER_NAME]
    for name in retired:
        _stop_scheduler(name, GRACE_S)
    config = SchedulerConfig(
        database_url=database_url,
        plan=plan,
        lease_s=settings.lease_s,
        retry_rule=RetryRule(max_errors=settings.max_attempts),
        owner_cap=settings.max_in_flight_per_owner,
        work_in_flight_s=settings.work_in_flight_s,
        postgres_dir=None if settings.database_url else settings.postgres_dir,
        scenes_url=settings.resolved_scenes_url,
        engine=settings.search_engine,
        quotas=settings.owner_quotas,
        audit_days=settings.audit_days,
        log=settings.log_config,
        name=scheduler_name,
        embedding_environment={**as_environment(settings), **database_environment(database_url)},
    )
    return start_actor(SCHEDULER_NAME, config)


def _wait_until_ready(say: Say, scheduler: Any, database_url: str) -> None:
    """Until all workers have loaded; says which have not, whenever these are others."""
    said: list[str] = []
    began_s = time.monotonic()
    with open_pool(database_url, max_size=1, name="heimdex-loading") as pool:
        while not _is_ready(scheduler):
            try:
                seen = seen_workers(pool, SEEN_WITHIN_S)
            except DatabaseUnavailable:
                continue
            starting = [worker.worker.rpartition("/")[2] for worker in seen if worker.state == "starting"]
            if starting and starting != said:
                said = starting
                say(f"waiting for {', '.join(starting)} to load ({time.monotonic() - began_s:.0f} s)")


def _is_ready(scheduler: Any) -> bool:
    """Looks for at most a moment. A scheduler that loses Postgres ends itself, and Ray starts it again."""
    import ray
    from ray.exceptions import ActorUnavailableError

    try:
        return bool(ray.get(scheduler.wait_until_ready.remote(READY_POLL_S)))
    except ActorUnavailableError as error:
        logger.warning(Event.SCHEDULER_RESTARTING, error=error, retry_s=READY_POLL_S)
        time.sleep(READY_POLL_S)
        return False


def _ensure_index(say: Say, engine: EngineAddress, database_url: str) -> None:
    """The engine's index for the models that were loaded, built of all scenes if it is not there."""
    from cluster.store.index.model_registry import SearchModels
    from cluster.store.opensearch.client import open_client
    from cluster.store.opensearch.rebuild import SearchIndexes, throttled_progress

    with open_pool(database_url, max_size=4, name="heimdex-index") as pool:
        models = SearchModels(pool).keys()
        indexes = SearchIndexes(pool, database_url, open_client(engine), engine)
        indexes.ensure(models, throttled_progress(say))


def _start_proxy(settings: Settings, http_port: int) -> None:
    """Serve itself: its controller and the proxy that listens."""
    from ray import serve

    from serve_app.proxy_answers import proxy_environment

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(
        proxy_location="HeadOnly",
        http_options={
            "host": settings.http_host,
            "port": http_port,
            "request_timeout_s": settings.request_timeout_s + PROXY_SLACK_S,
        },
        controller_options={"runtime_env": {"env_vars": proxy_environment(settings)}},
        logging_config={"log_level": "WARNING"},
    )


def _start_application(settings: Settings, database_url: str) -> None:
    from ray import serve

    from serve_app.app import build_app

    overrides: dict[str, Any] = settings.model_dump(exclude_unset=True)
    overrides |= {"database_url": database_url, "data_dir": settings.data_dir, **dict.fromkeys(ROLE_URLS)}
    try:
        serve.run(build_app(overrides), name=SERVE_APPLICATION, route_prefix="/")
    except RuntimeError as error:
        raise ConfigurationError(f"the HTTP endpoints do not start: {_serve_message() or error}") from None


def _serve_message() -> str:
    """The last line of what Serve says of the deployment that failed."""
    from ray import serve

    application = serve.status().applications.get(SERVE_APPLICATION)
    messages = [deployment.message for deployment in application.deployments.values()] if application else []
    lines = [line for message in messages for line in message.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def stop_actors(say: Say, log: LogConfig, grace_s: float) -> None:
    """Stop every scheduler and Serve; what is in flight has ``grace_s`` seconds to finish."""
    from ray import serve

    set_up_logging(log, process="driver")
    say(f"giving what is in flight {grace_s:g} s to finish, then handing it back")
    _stop_schedulers(grace_s)
    serve.shutdown()


def _stop_schedulers(grace_s: float) -> None:
    for name in _scheduler_names():
        _stop_scheduler(name, grace_s)


def _scheduler_names() -> list[str]:
    import ray

    return [name for name in ray.util.list_named_actors() if name.startswith("scheduler-")]


def _stop_scheduler(name: str, grace_s: float) -> None:
    import ray
    from ray.exceptions import RayError

    try:
        scheduler = ray.get_actor(name)
    except ValueError as error:  # it is gone already: its leases expire
        logger.warning(Event.SCHEDULER_NOT_STOPPED, name=name, error=error)
        return
    try:
        ray.get(scheduler.stop.remote(grace_s))
    except RayError as error:  # it died, or cannot stop on its own; Ray would start it again
        logger.warning(Event.SCHEDULER_NOT_STOPPED, name=name, error=error)
    ray.kill(scheduler)


def _refuse_socket_on_many_nodes(settings: Settings) -> None:
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]
    if settings.database_url is None and len(nodes) > 1:
        raise ConfigurationError(
            f"HEIMDEX_DATABASE_URL is not set: the embedded Postgres serves one machine, this cluster has {len(nodes)}"
        )
