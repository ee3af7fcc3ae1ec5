"""The one composition root: Postgres, migrations, Ray, the scheduler with its workers, and Serve.

Brings a cluster up, finds the one that is up, and takes down what was brought up. Which process is whose is kept in
``cluster.json`` in the data directory; everything else that must survive lies in Postgres.

Ray is imported where it is used: it reads its authentication mode on import, and a command that needs no Ray is quick.
"""

import contextlib
import dataclasses
import json
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import __version__
from cluster.contracts.errors import ConfigurationError
from cluster.contracts.stages import RetryRule
from cluster.ray_node import NodeOptions, RayNode, free_port, port_is_free, prepare_ray, start_node
from cluster.settings import Settings
from cluster.store.database import EmbeddedPostgres, open_pool, running_url
from cluster.store.migrations import apply_migrations
from cluster.store.worker_registry import SCHEDULER_KIND, SEEN_WITHIN_S, seen_workers

RAY_NAMESPACE = "heimdex"
SERVE_APPLICATION = "heimdex"
SCHEDULER_NAME = f"scheduler-{__version__}"
READY_POLL_S = 2.0
GRACE_S = 10.0
"""How long ``down`` lets videos in flight finish before they are handed back to the queue."""
PROXY_SLACK_S = 5.0
"""How much later than the application, which says so in its own words, Serve's proxy gives a request up."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class ClusterState:
    """A cluster that is up. ``node`` is None when Ray is somebody else's (``HEIMDEX_RAY_ADDRESS``)."""

    version: str
    database_url: str
    ray_address: str
    dashboard_url: str | None
    http_url: str
    node: RayNode | None


# Postgres


def embedded(settings: Settings) -> EmbeddedPostgres:
    """The embedded Postgres of the data directory, running or not."""
    return EmbeddedPostgres(settings.data_dir / "postgres")


def existing_database_url(settings: Settings) -> str | None:
    """The database's URL if one is set or the embedded one runs; starts nothing."""
    return settings.database_url or running_url(settings.data_dir / "postgres")


@contextmanager
def open_database(settings: Settings) -> Iterator[str]:
    """The URL of a migrated database. An embedded one that had to be started is stopped again at the end."""
    url = existing_database_url(settings)
    started = url is None
    if url is None:
        url = embedded(settings).start()
    try:
        apply_migrations(url)
        yield url
    finally:
        if started:
            embedded(settings).stop()


# The cluster


def is_scheduling(url: str) -> bool:
    """Whether a scheduler works on this database, wherever it runs."""
    apply_migrations(url)
    with open_pool(url, max_size=1, name="heimdex-probe") as pool:
        return any(worker.kind == SCHEDULER_KIND for worker in seen_workers(pool, SEEN_WITHIN_S))


def find(settings: Settings) -> ClusterState | None:
    """The cluster of this data directory if it is up. A record of one that died is no cluster."""
    try:
        record = json.loads(_record_file(settings).read_text())
    except FileNotFoundError:
        return None
    node = RayNode(**record.pop("node")) if record["node"] else record.pop("node")
    state = ClusterState(**record, node=node)
    return None if node is not None and not node.is_alive() else state


def up(settings: Settings, say: Say) -> ClusterState:
    """Bring the cluster up; what was begun is taken down again when a part does not start.

    Raises:
        ConfigurationError: a setting, a port or a model stands in the way; the message says how to mend it.
    """
    prepare_ray(loopback=settings.ray_address is None)
    _check_speech_model(settings)
    http_port = _free_http_port(settings)
    settings.resolved_owner_id  # noqa: B018  made now, so that a data directory that cannot be written fails first
    with contextlib.ExitStack() as undo:
        url = settings.database_url
        if url is None:
            say("starting Postgres")
            undo.callback(embedded(settings).stop)
            url = embedded(settings).start()
        applied = apply_migrations(url)
        if applied:
            say(f"applied {len(applied)} migrations")
        node = None
        if settings.ray_address is None:
            say("starting Ray")
            node = start_node(_node_options(settings, url))
            undo.callback(node.stop)
        state = ClusterState(
            version=__version__,
            database_url=url,
            ray_address=node.address if node else str(settings.ray_address),
            dashboard_url=node.dashboard_url if node else None,
            http_url=f"http://{settings.http_host}:{http_port}",
            node=node,
        )
        with connected(state), _stopping_actors_on_error():
            _start_scheduler(settings, state, say)
            say("starting the HTTP endpoints")
            _start_serve(settings, state, http_port)
        _record(settings, state)
        undo.pop_all()
    return state


def take_over(settings: Settings, say: Say) -> ClusterState:
    """Bring up again a cluster of which something died: what is left of it is ended first."""
    state = find(settings)
    if state is not None and state.node is not None:
        state.node.stop()
    _record_file(settings).unlink(missing_ok=True)
    return up(settings, say)


def down(settings: Settings, say: Say) -> bool:
    """Take the cluster down; whatever is in flight is finished or handed back. False when there was none."""
    state = find(settings)
    if state is not None:
        say("finishing or handing back what is in flight")
        with connected(state):
            _stop_actors()
        if state.node is not None:
            say("stopping Ray")
            state.node.stop()
    _record_file(settings).unlink(missing_ok=True)
    if settings.database_url is None and embedded(settings).is_running():
        say("stopping Postgres")
        embedded(settings).stop()
        return True
    return state is not None


@contextmanager
def connected(state: ClusterState) -> Iterator[None]:
    """This process as a driver of the cluster's Ray."""
    prepare_ray(loopback=state.node is not None)
    import ray

    with _sigterm_kept():
        ray.init(
            address=state.ray_address,
            namespace=RAY_NAMESPACE,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
        )
    try:
        yield
    finally:
        with _sigterm_kept():
            ray.shutdown()


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Ray puts a handler of its own in place when it connects, and none when it leaves: a command would just die."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


@contextmanager
def ray_of_this_process() -> Iterator[None]:
    """A small Ray of this process alone, for what reads with Ray Data while no cluster is up."""
    prepare_ray(loopback=True)
    import ray

    ray.init(
        address="local",  # never one that happens to run on this machine
        num_cpus=1,
        include_dashboard=False,
        object_store_memory=256 * 1024**2,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        yield
    finally:
        ray.shutdown()


def _start_scheduler(settings: Settings, state: ClusterState, say: Say) -> None:
    import ray

    from actors.scheduler import SchedulerConfig
    from actors.scheduler_actor import start_scheduler
    from cluster.plan import Hardware, plan_workers

    _refuse_socket_on_many_nodes(settings)
    plan = plan_workers(settings, state.database_url, Hardware.of_cluster())
    counts = ", ".join(f"{p.count} {kind.value}" for kind, p in plan.placements.items())
    say(f"loading models: {plan.speech.model} and {plan.vision.model} on {plan.vision.device} ({counts} workers)")
    retired = [name for name in _scheduler_names() if name != SCHEDULER_NAME]
    for name in retired:
        _stop_scheduler(name)
    config = SchedulerConfig(
        database_url=state.database_url,
        plan=plan,
        lease_s=settings.lease_s,
        retry_rule=RetryRule(max_errors=settings.max_attempts),
        owner_cap=settings.max_in_flight_per_owner,
        postgres_dir=None if settings.database_url else embedded(settings).data_dir,
    )
    scheduler = start_scheduler(SCHEDULER_NAME, config)
    while not ray.get(scheduler.wait_until_ready.remote(READY_POLL_S)):
        pass


def _start_serve(settings: Settings, state: ClusterState, http_port: int) -> None:
    from ray import serve

    from serve_app.app import build_app

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    overrides: dict[str, Any] = settings.model_dump(exclude_unset=True)
    overrides |= {"database_url": state.database_url, "data_dir": settings.data_dir}
    serve.start(
        proxy_location="HeadOnly",
        http_options={
            "host": settings.http_host,
            "port": http_port,
            "request_timeout_s": settings.request_timeout_s + PROXY_SLACK_S,
        },
        logging_config={"log_level": "WARNING"},
    )
    try:
        serve.run(build_app(overrides), name=SERVE_APPLICATION, route_prefix="/")
    except RuntimeError as error:
        raise ConfigurationError(f"the HTTP endpoints do not start: {_serve_message() or error}") from None


@contextmanager
def _stopping_actors_on_error() -> Iterator[None]:
    try:
        yield
    except BaseException:
        _stop_actors()
        raise


def _serve_message() -> str:
    """The last line of what Serve says of the deployment that failed."""
    from ray import serve

    application = serve.status().applications.get(SERVE_APPLICATION)
    messages = [deployment.message for deployment in application.deployments.values()] if application else []
    lines = [line for message in messages for line in message.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def _stop_actors() -> None:
    from ray import serve

    serve.shutdown()
    for name in _scheduler_names():
        _stop_scheduler(name)


def _scheduler_names() -> list[str]:
    import ray

    return [name for name in ray.util.list_named_actors() if name.startswith("scheduler-")]


def _stop_scheduler(name: str) -> None:
    import ray
    from ray.exceptions import RayError

    log = logging.getLogger(__name__)
    try:
        scheduler = ray.get_actor(name)
    except ValueError as error:  # it is gone already: its leases expire
        log.info("%s: %s", name, error)
        return
    try:
        ray.get(scheduler.stop.remote(GRACE_S))
    except RayError as error:  # it died, or cannot stop by itself; Ray would start it again
        log.info("%s: %s", name, error)
    ray.kill(scheduler)


def _refuse_socket_on_many_nodes(settings: Settings) -> None:
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]
    if settings.database_url is None and len(nodes) > 1:
        raise ConfigurationError(
            f"HEIMDEX_DATABASE_URL is not set: the embedded Postgres serves one machine, this cluster has {len(nodes)}"
        )


def _check_speech_model(settings: Settings) -> None:
    """Where this machine is the whole cluster, a model that cannot be had is found out before anything is started."""
    if settings.ray_address is None and settings.whisper_model is not None:
        from cluster.models.speech import check_available

        check_available(settings.whisper_model)


def _free_http_port(settings: Settings) -> int:
    if find(settings) is not None:
        raise ConfigurationError("a cluster of this data directory is up already: `heimdex status` shows it")
    for name, host, port in (
        ("HEIMDEX_HTTP_PORT", settings.http_host, settings.http_port),
        ("HEIMDEX_DASHBOARD_PORT", "127.0.0.1", settings.dashboard_port if settings.ray_address is None else 0),
    ):
        if port and not port_is_free(host, port):
            raise ConfigurationError(f"{name}: {host}:{port} is in use; set another port, or 0 for any free one")
    return settings.http_port or free_port()


def _node_options(settings: Settings, database_url: str) -> NodeOptions:
    return NodeOptions(
        cpus=settings.cpus,
        object_store_mb=settings.object_store_mb,
        dashboard_port=settings.dashboard_port,
        log_file=settings.data_dir / "logs" / "ray.log",
        environment={"HEIMDEX_DATABASE_URL": database_url},
    )


def _record(settings: Settings, state: ClusterState) -> None:
    """Written whole or not at all: other commands read it at any moment."""
    draft = _record_file(settings).with_suffix(".new")
    draft.write_text(json.dumps(dataclasses.asdict(state), indent=1))
    draft.replace(_record_file(settings))


def _record_file(settings: Settings) -> Path:
    return settings.data_dir / "cluster.json"
