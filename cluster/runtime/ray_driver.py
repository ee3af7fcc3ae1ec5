"""Connecting to Ray: this process, or one of its own for work that Ray's death must not take along.

A driver that loses its connection to Ray's head is ended by Ray, from C++, whatever it was at: a command that must
outlive the cluster it brings up (``heimdex process``) never connects itself.

Ray is imported where it is used: it reads its authentication mode on import, and a command that needs no Ray is quick.
"""

import logging
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    """Run ``work(say, ...)`` in a new process that is connected to that Ray; what it prints goes into ``log_file``.

    An interruption is passed on, so that ``work`` can undo what it began, and waited for.

    Raises:
        HeimdexError: ``work`` raised it.
        NodeLost: Ray died meanwhile.
    """
    prepare_ray(loopback=place.ours)
    spawn = multiprocessing.get_context("spawn")  # Ray's threads and Postgres's sessions do not survive a fork
    receiver, sender = spawn.Pipe(duplex=False)
    child = spawn.Process(target=_work, args=(sender, place, log_file, work, arguments, keywords))
    child.start()
    sender.close()
    try:
        _relay(receiver, say)
    except EOFError:
        raise NodeLost(f"Ray died meanwhile (log: {log_file})") from None
    except (KeyboardInterrupt, SystemExit):
        if child.pid is not None:
            os.kill(child.pid, signal.SIGINT)
        raise
    finally:
        child.join()
        receiver.close()


def _relay(receiver: Connection, say: Say) -> None:
    """Until the process is done. Raises EOFError when it ends before."""
    while True:
        message = receiver.recv()
        if message is None:
            return
        if isinstance(message, BaseException):
            raise message
        say(message)


def _work(
    sender: Connection, place: RayPlace, log_file: Path, work: Callable[..., None], arguments: Any, keywords: Any
) -> None:
    """What the new process does: says sentences, then None, or the error that ended it."""
    guard_output()
    set_private_umask()
    os.setpgrp()  # Ctrl-C reaches the whole group of the command, which passes it on
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ |= _LOST_AFTER
    with open_log(log_file) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        with unwrap_ray_errors(), connected(place):
            work(sender.send, *arguments, **keywords)
    except HeimdexError as error:
        sender.send(error)
    except KeyboardInterrupt:
        pass  # the command that passed it on knows
    except Exception as error:
        traceback.print_exc()
        sender.send(RuntimeError(f"{type(error).__name__}: {error} (log: {log_file})"))
    else:
        sender.send(None)


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
