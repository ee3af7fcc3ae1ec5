"""Connecting to Ray: this process, or one of its own for work that Ray's death must not take along.

A driver that loses its connection to Ray's head is ended by Ray, from C++, whatever it was at: a command that must
outlive the cluster it brings up (``heimdex process``) never connects itself.

Ray is imported where it is used: it reads its authentication mode on import, and a command that needs no Ray is quick.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from cluster.contracts.errors import HeimdexError, NodeLost
from cluster.runtime.ray_folder import given_to_ray, new_ray_folder, remove_ray_folder
from cluster.runtime.ray_node import prepare_ray
from cluster.security.private_files import open_log, set_private_umask
from cluster.security.visible import guard_output

RAY_NAMESPACE = "heimdex"
_LOST_AFTER = {"RAY_gcs_rpc_server_reconnect_timeout_s": "15"}
"""Time for which a process of its own looks for a head that stopped answering; Ray's default is a minute."""

Say = Callable[[str], None]
Arguments = ParamSpec("Arguments")


@dataclass(frozen=True)
class RayPlace:
    """A Ray to connect to. ``ours``: it is on this machine's 127.0.0.1 alone."""

    address: str
    ours: bool


@contextmanager
def connected(place: RayPlace) -> Iterator[None]:
    """This process as a driver of that Ray."""
    prepare_ray(loopback=place.ours)
    import ray

    with _sigterm_kept():
        ray.init(
            address=place.address,
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
def ray_of_this_process(cpus: int = 1) -> Iterator[None]:
    """A Ray of this process alone, for what works with Ray Data while no cluster is up."""
    prepare_ray(loopback=True)
    import ray

    folder = new_ray_folder()
    ray.init(
        address="local",  # never one that happens to run on this machine
        _temp_dir=str(given_to_ray(folder)),
        num_cpus=cpus,
        include_dashboard=False,
        object_store_memory=256 * 1024**2,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        yield
    finally:
        ray.shutdown()
        remove_ray_folder(folder)


def in_own_process(
    place: RayPlace,
    log_file: Path,
    say: Say,
    work: Callable[Concatenate[Say, Arguments], None],
    *arguments: Arguments.args,
    **keywords: Arguments.kwargs,
) -> None:
    """Run ``work(say, ...)`` in a new process that is connected to that Ray, see :meth:`RayDriver.run`."""
    with closing(RayDriver(log_file, ours=place.ours)) as driver:
        driver.run(place, say, work, *arguments, **keywords)


def _nothing() -> None:
    pass


class RayDriver:
    """A new process for work in Ray; what it prints goes into ``log_file``.

    It can be started before its Ray is: ``ahead`` imports meanwhile what the work needs. Close it.
    """

    def __init__(self, log_file: Path, *, ours: bool, ahead: Callable[[], None] = _nothing) -> None:
        prepare_ray(loopback=ours)
        spawn = multiprocessing.get_context("spawn")  # Ray's threads and Postgres's sessions do not survive a fork
        self._log_file = log_file
        self._connection, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_work, args=(theirs, log_file, ahead))
        self._process.start()
        self._works = False
        theirs.close()

    def run(
        self,
        place: RayPlace,
        say: Say,
        work: Callable[Concatenate[Say, Arguments], None],
        *arguments: Arguments.args,
        **keywords: Arguments.kwargs,
    ) -> None:
        """Run ``work(say, ...)`` there, connected to that Ray; the process ends with it.

        An interruption is passed on, so that ``work`` can undo what it began, and waited for.

        Raises:
            HeimdexError: ``work`` raised it.
            NodeLost: Ray died meanwhile.
        """
        self._works = True
        try:
            self._give((place, work, arguments, keywords))
            while (sentence := self._answer()) is not None:
                say(sentence)
        except (KeyboardInterrupt, SystemExit):
            if self._process.pid is not None:
                os.kill(self._process.pid, signal.SIGINT)
            raise
        finally:
            self._process.join()

    def _give(self, work: object) -> None:
        with contextlib.suppress(ConnectionError):  # it ended already, and its last answer says why
            self._connection.send(work)

    def _answer(self) -> str | None:
        """What is to be said; None: the work is done. Raises the error that ended it."""
        try:
            message = self._connection.recv()
        except (EOFError, ConnectionError):
            raise NodeLost(f"Ray died meanwhile (log: {self._log_file})") from None
        if isinstance(message, BaseException):
            raise message
        return None if message is None else str(message)

    def close(self) -> None:
        """End the process if no work was given to it: it has begun nothing. Else it is left to what it undoes."""
        if not self._works:
            self._process.kill()
            self._process.join()
        self._connection.close()


def _work(connection: Connection, log_file: Path, ahead: Callable[[], None]) -> None:
    """What the new process does once it is given work: says sentences, then None, or the error that ended it."""
    guard_output()
    set_private_umask()
    os.setpgrp()  # Ctrl-C reaches the whole group of the command, which passes it on
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ |= _LOST_AFTER
    with open_log(log_file) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        ahead()
        place, work, arguments, keywords = _given(connection)
        with unwrap_ray_errors(), connected(place):
            work(connection.send, *arguments, **keywords)
    except HeimdexError as error:
        connection.send(error)
    except KeyboardInterrupt:
        pass  # the command that passed it on knows
    except Exception as error:
        traceback.print_exc()
        connection.send(RuntimeError(f"{type(error).__name__}: {error} (log: {log_file})"))
    else:
        connection.send(None)


def _given(connection: Connection) -> Any:
    """What there is to do. Ends this process where the command is gone."""
    try:
        return connection.recv()
    except EOFError:
        sys.exit(0)


@contextmanager
def unwrap_ray_errors() -> Iterator[None]:
    """An error of ours that an actor raised is raised as it was; Ray's own, once it died, as NodeLost."""
    from ray.exceptions import RayError, RayTaskError

    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, HeimdexError):
            raise error.cause from None
        raise
    except (RayError, ConnectionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise NodeLost(f"Ray died meanwhile: {reason}") from error


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Ray puts a handler of its own in place when it connects, and none when it leaves: a command would just die."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
