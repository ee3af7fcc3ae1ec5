"""The Ray actor around the scheduler: detached, started again by Ray when its process dies, rebuilt from Postgres.

The work is ``actors.scheduler.scheduler``'s, on an event loop in a thread of its own, so that Ray's calls are answered
meanwhile.
"""

import asyncio
import os
import threading
import time
from typing import Any, TypeVar

import ray

from actors.scheduler.scheduler import SchedulerConfig, VideoScheduler
from actors.workers.worker import SHOWN_PREFIX
from cluster.contracts.errors import ConfigurationError
from cluster.contracts.events import Event
from cluster.security.event_log import EventLog
from cluster.security.log_output import set_up_logging
from cluster.security.private_files import set_private_umask
from cluster.security.visible import guard_output
from cluster.store.postgres.connections import EmbeddedPostgres

logger = EventLog(__name__)

RESTART_DELAY_S = 1.0

Failure = TypeVar("Failure", bound=BaseException)


class SchedulerActor:
    """A ``VideoScheduler`` and its thread. Its leases carry a name that stays the same after a restart."""

    def __init__(self, config: SchedulerConfig) -> None:
        guard_output()
        set_private_umask()
        self._config = config
        self._name = config.name or f"scheduler-{ray.get_runtime_context().get_actor_id()}"
        if config.log is not None:
            set_up_logging(config.log, scheduler=self._name, node=ray.util.get_node_ip_address())
        self._ready = threading.Event()
        self._error: ConfigurationError | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scheduler: VideoScheduler | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Whether every worker has loaded, after at most ``timeout_s``. Raises the error that stopped it."""
        self._ready.wait(timeout_s)
        if self._error is not None:
            raise self._error
        return self._ready.is_set()

    def stop(self, grace_s: float) -> None:
        """Stop scheduling; returns when what was in flight is finished or handed back.

        Before it is ready, and after loading failed, nothing is in flight and nothing has to be waited for.
        """
        if not self._ready.is_set() or self._loop is None or self._scheduler is None or self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._scheduler.stop, grace_s)
        self._thread.join(timeout=grace_s + 30.0)

    def __repr__(self) -> str:
        return type(self).__name__

    def pid(self) -> int:
        """The process id."""
        return os.getpid()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except* ConfigurationError as group:
            error = _first_error(group)
            if ray.get_runtime_context().was_current_actor_reconstructed:  # it had worked: no command waits for it
                self._begin_again(error)
            logger.error(Event.SCHEDULER_CRASHED, error=error)
            self._error = error
            self._ready.set()
        except* Exception as group:
            self._begin_again(_first_error(group))

    def _begin_again(self, error: BaseException) -> None:
        """End the process: Ray starts it again."""
        logger.exception(Event.SCHEDULER_CRASHED, error=error)
        time.sleep(RESTART_DELAY_S)
        os._exit(1)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self._config.postgres_dir is not None:  # it may have died along with the scheduler before this one
            await asyncio.to_thread(EmbeddedPostgres(self._config.postgres_dir, roles=True).start)
        self._scheduler = VideoScheduler(self._config, self._name)
        await self._scheduler.serve(self._ready.set)


def start_scheduler(name: str, config: SchedulerConfig) -> Any:
    """The scheduler actor of that name in the driver's namespace; the one that runs already, if one does.

    It outlives the driver. ``wait_until_ready`` waits for its workers.
    """
    options: dict[str, Any] = {
        "name": name,
        "lifetime": "detached",
        "num_cpus": 0,
        "max_restarts": -1,
        "max_task_retries": 0,
        "max_concurrency": 8,
        "get_if_exists": True,
    }
    return ray.remote(type(f"{SHOWN_PREFIX}scheduler", (SchedulerActor,), {})).options(**options).remote(config)


def _first_error(group: BaseExceptionGroup[Failure]) -> Failure:
    for error in group.exceptions:
        return _first_error(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group is never empty")
