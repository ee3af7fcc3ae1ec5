"""The one composition root: Postgres, migrations, Ray, the scheduler with its workers, and Serve.

Brings a cluster up, finds the one that is up, and takes down what was brought up. Which process is whose is kept in
``cluster.json`` in the data directory; everything else that must survive is in Postgres.

Whatever connects to Ray does so in a process of its own, see ``cluster.runtime.ray_driver``.
"""

import dataclasses
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from cluster import __version__
from cluster.contracts.counts import counted
from cluster.contracts.database_url import DatabaseRole, DatabaseUrls, without_password
from cluster.contracts.errors import ConfigurationError, NodeLost
from cluster.runtime import cluster_actors
from cluster.runtime.ray_driver import RayDriver, RayPlace, Say, in_own_process
from cluster.runtime.ray_node import NodeOptions, RayNode, free_port, port_is_free, prepare_ray, start_node
from cluster.runtime.settings_record import note_settings
from cluster.runtime.stopping import stop_at_once
from cluster.security.audit_lines import audit_to_file
from cluster.security.data_folder import check_data_folder, prepare_data_folder
from cluster.security.log_output import set_up_logging
from cluster.security.private_files import check_private_file, make_private_folder, replace_private_file
from cluster.settings import Settings, database_environment
from cluster.store.opensearch.client import check_engine, open_client
from cluster.store.postgres.admin_functions import restore_functions
from cluster.store.postgres.connections import EmbeddedPostgres, Pool, open_pool, running_urls
from cluster.store.postgres.migrations import apply_migrations, pending_migrations, refuse_unmigrated
from cluster.store.postgres.roles import restore_rights
from cluster.store.postgres.row_security import refuse_hidden_rows
from cluster.store.queue.worker_registry import SCHEDULER_KIND, SEEN_WITHIN_S, seen_workers

RECORD = "cluster.json"


@dataclass(frozen=True)
class ClusterState:
    """A cluster that is up. ``node`` is None when Ray was not started by it (``HEIMDEX_RAY_ADDRESS``)."""

    version: str
    database_url: str = field(repr=False)
    """Of a recorded cluster without the password: the settings have it."""
    ray_address: str
    dashboard_url: str | None = field(repr=False)
    http_url: str = field(repr=False)
    node: RayNode | None
    scheduler: str | None = None
    """What the scheduler's leases carry; None: a cluster of an earlier version."""


# Postgres


def embedded(settings: Settings) -> EmbeddedPostgres:
    """The embedded Postgres of the data directory, running or not."""
    return EmbeddedPostgres(settings.postgres_dir, roles=True)


def database_urls(settings: Settings) -> DatabaseUrls | None:
    """The database's URLs if one is set or the embedded one runs; starts nothing."""
    if settings.database_urls is not None:
        return settings.database_urls
    check_data_folder(settings.data_dir)
    return running_urls(settings.postgres_dir)


def existing_database_url(settings: Settings, role: DatabaseRole = DatabaseRole.WORKER) -> str | None:
    """The same for one role."""
    urls = database_urls(settings)
    return None if urls is None else urls.of(role)


@contextmanager
def started_database(settings: Settings) -> Iterator[DatabaseUrls]:
    """The URLs of the database, as it is. An embedded one that had to be started is stopped again at the end."""
    with _started_or_in_use(settings) as (urls, _):
        yield urls


@contextmanager
def _started_or_in_use(settings: Settings) -> Iterator[tuple[DatabaseUrls, bool]]:
    """The same, and whether it was there before, so that others may be using it."""
    prepare_data_folder(settings.data_dir)
    urls = database_urls(settings)
    if urls is not None:
        yield urls, True
        return
    server = embedded(settings)
    try:
        server.start()
        yield server.urls, False
    finally:
        server.stop()


@contextmanager
def open_database(settings: Settings, role: DatabaseRole = DatabaseRole.WORKER) -> Iterator[str]:
    """The URL of a migrated database for a role; started and stopped as by :func:`started_database`.

    One that others may be using is not migrated. Raises ConfigurationError when it lacks migrations.
    """
    with _started_or_in_use(settings) as (urls, in_use):
        if in_use:
            refuse_unmigrated(urls.of(role))
        else:
            apply_migrations(urls.migrate)
        refuse_hidden_rows(urls.of(role))
        _log_to_files(settings)
        yield urls.of(role)


def open_database_as_owner(settings: Settings) -> AbstractContextManager[str]:
    """The same for what only the owner of the tables may do."""
    return open_database(settings, DatabaseRole.MIGRATE)


# The cluster


def is_scheduling(settings: Settings, urls: DatabaseUrls) -> bool:
    """Whether a scheduler works on this database, wherever it runs.

    Raises ConfigurationError when the database lacks migrations, unless `up` applies them.
    """
    if settings.database_urls is not None or find(settings) is not None:
        refuse_unmigrated(urls.worker)
    elif pending_migrations(urls.worker):
        return False
    with open_pool(urls.worker, max_size=1, name="heimdex-probe") as pool:
        return any(worker.kind == SCHEDULER_KIND for worker in seen_workers(pool, SEEN_WITHIN_S))


def find(settings: Settings) -> ClusterState | None:
    """The cluster of this data directory if it is up. A record of one that died is no cluster."""
    state = _recorded(settings)
    return None if state is None or (state.node is not None and not state.node.is_alive()) else state


def _recorded(settings: Settings) -> ClusterState | None:
    """The cluster that was brought up last and not taken down, alive or not."""
    check_data_folder(settings.data_dir)
    file = _record_file(settings)
    if not os.path.lexists(file):
        return None
    check_private_file(file, "the cluster's record")
    try:
        record = json.loads(file.read_text())
    except FileNotFoundError:  # taken down meanwhile
        return None
    node = record.pop("node")
    return ClusterState(**record, node=RayNode(**node) if node else None)


def up(settings: Settings, say: Say) -> ClusterState:
    """Bring the cluster up; what was begun is taken down again when a part does not start.

    Raises:
        ConfigurationError: a setting, a port or a model is wrong or taken, or a database that is not this cluster's own
            lacks migrations; the message says how to fix it.
        SearchUnavailable: the search engine that is set does not answer.
    """
    _check_folders(settings)
    prepare_ray(loopback=settings.ray_address is None)
    if settings.search_engine is not None:
        check_engine(open_client(settings.search_engine))
    http_port = _free_http_port(settings)
    _remove_remains(settings)
    settings.resolved_owner_id  # noqa: B018  made now, so that a data directory that cannot be written fails first
    started = RayDriver(_driver_log(settings), ours=settings.ray_address is None, ahead=cluster_actors.import_ahead)
    with closing(started) as driver, ExitStack() as undo:
        urls = settings.database_urls
        if urls is None:
            say("starting Postgres")
            undo.callback(embedded(settings).stop)
            embedded(settings).start()
            urls = embedded(settings).urls
        _prepare_database(urls, say, ours=settings.database_urls is None)
        _log_to_files(settings)
        with open_pool(urls.worker, max_size=1, name="heimdex-up") as pool:
            if settings.ray_address is None:  # else other machines have them
                _check_models(settings, pool)
            note_settings(pool, settings)
        node = None
        if settings.ray_address is None:
            say("starting Ray")
            node = start_node(_node_options(settings, urls.worker))
            undo.callback(node.stop)
        state = ClusterState(
            version=__version__,
            database_url=urls.worker,
            ray_address=node.address if node else str(settings.ray_address),
            dashboard_url=node.dashboard_url if node else None,
            http_url=f"http://{settings.http_host}:{http_port}",
            node=node,
            scheduler=f"scheduler-{uuid.uuid4().hex}",
        )
        driver.run(ray_of(state), say, cluster_actors.start_actors, settings, urls, http_port, state.scheduler)
        _record(settings, state)
        undo.pop_all()
    return state


def _prepare_database(urls: DatabaseUrls, say: Say, *, ours: bool) -> None:
    if not ours:
        refuse_unmigrated(urls.migrate)
    elif applied := apply_migrations(urls.migrate):
        say(f"applied {counted(len(applied), 'migration')}")
    for function in restore_functions(urls.migrate):
        say(f"restored {function}, which was not the migrations' own")
    for right in restore_rights(urls.migrate):
        say(f"restored a right: {right}")
    for url in dict.fromkeys((urls.worker, urls.api)):
        refuse_hidden_rows(url)


def ray_of(state: ClusterState) -> RayPlace:
    """Where the cluster's Ray is."""
    return RayPlace(state.ray_address, ours=state.node is not None)


def take_over(settings: Settings, say: Say) -> ClusterState:
    """Bring up again a cluster of which something died: what is left of it is ended first."""
    _remove_remains(settings)
    _record_file(settings).unlink(missing_ok=True)
    return up(settings, say)


def down(settings: Settings, say: Say, grace_s: float | None = None) -> bool:
    """Take the cluster down; False when there was none.

    With ``grace_s``, what is in flight has so much time to finish. The rest is handed back; without, all is, at once,
    where Ray is this cluster's own.
    """
    state = find(settings)
    if state is not None:
        if state.node is not None and state.scheduler is not None and grace_s is None:
            stop_at_once(state.node, state.scheduler, _worker_url(settings, state), say)
        else:
            _stop_in_order(settings, state, say, cluster_actors.GRACE_S if grace_s is None else grace_s)
    _remove_remains(settings)
    _record_file(settings).unlink(missing_ok=True)
    if settings.database_url is None and embedded(settings).is_running():
        say("stopping Postgres")
        embedded(settings).stop()
        return True
    return state is not None


def _stop_in_order(settings: Settings, state: ClusterState, say: Say, grace_s: float) -> None:
    try:
        in_own_process(
            ray_of(state), _driver_log(settings), say, cluster_actors.stop_actors, settings.log_config, grace_s
        )
    except NodeLost as error:
        say(f"{error}: what was in flight goes on once its leases have expired")
    if state.node is not None:
        say("stopping Ray")


def _worker_url(settings: Settings, state: ClusterState) -> str:
    """The database as workers enter it; the record has no password."""
    urls = database_urls(settings)
    return state.database_url if urls is None else urls.worker


def _check_models(settings: Settings, pool: Pool) -> None:
    from cluster.runtime.model_check import check_models_of  # brings numpy along, for which other commands do not wait

    check_models_of(settings, pool)


def _check_folders(settings: Settings) -> None:
    """Before anything is read there or started: who could put something into them, or take something out."""
    prepare_data_folder(settings.data_dir)
    if settings.ray_address is None:  # else it is on the nodes, where their workers check it
        make_private_folder(settings.resolved_scratch_dir, "HEIMDEX_SCRATCH_DIR")


def _remove_remains(settings: Settings) -> None:
    """End the recorded node, if it runs, and remove its folder."""
    state = _recorded(settings)
    if state is not None and state.node is not None:
        state.node.stop()


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
        environment=database_environment(database_url),
    )


def _record(settings: Settings, state: ClusterState) -> None:
    record = dataclasses.asdict(replace(state, database_url=without_password(state.database_url)))
    replace_private_file(_record_file(settings), json.dumps(record, indent=1))


def _log_to_files(settings: Settings) -> None:
    """Add what this process logs, and its entries of the audit log, to the data directory's files."""
    audit_to_file(_audit_file(settings))
    set_up_logging(settings.log_config, stderr_level="warning", process="command")


def _audit_file(settings: Settings) -> Path:
    return settings.data_dir / "logs" / "audit.log"


def _driver_log(settings: Settings) -> Path:
    return settings.data_dir / "logs" / "driver.log"


def _record_file(settings: Settings) -> Path:
    return settings.data_dir / RECORD
