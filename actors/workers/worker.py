"""The Ray wrapper of every stage, and the one place that measures them.

A worker is a process that holds what its kind needs loaded and runs one call at a time. Large results stay behind
as references: what a stage yields part by part, but for a little of it, is put into the object store part by part
(``Parts``), so that neither this process nor the scheduler ever holds a whole video. Who calls, when and how often is
the pool's.
"""

import os
import pickle
import resource
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import ray
from ray.exceptions import ObjectLostError, ObjectStoreFullError, OutOfDiskError

from actors.workers.tracebacks import clear_traceback_frames
from cluster.contracts.errors import (
    ConfigurationError,
    DeviceFailure,
    HeimdexError,
    Interrupted,
    InvalidVideo,
    MalformedResult,
    NodeLost,
    NoSpace,
    Postponed,
    WorkerCrash,
)
from cluster.contracts.events import Event
from cluster.contracts.results import StageFailure, StageReport
from cluster.contracts.stages import Blame
from cluster.decoders.sandbox import forget_environment
from cluster.security.event_log import EventLog, log_fields
from cluster.security.log_output import LogConfig, set_up_logging
from cluster.security.private_files import set_private_umask
from cluster.security.redaction import redacted
from cluster.security.visible import guard_output

logger = EventLog(__name__)


Fields = Mapping[str, object]
"""Fields of what is logged."""
_Item = tuple[tuple[Any, ...], Fields]
"""The arguments of a call for one video, and the fields of what is logged meanwhile."""
LIVENESS_GROUP = "vigil"
"""The concurrency group of the call that lasts as long as the worker."""
BESIDE = "beside"
"""The concurrency group of short calls that run beside the others."""


SHOWN_PREFIX = "heimdex "
"""Before the name of what this product runs in Ray, as Ray shows it to people."""

RAYS_OWN = ("RAY_",)
"""Prefixes of the variables that Ray's worker itself goes on reading."""

SMALL_BYTES = 80 * 2**10
"""So much of a result, as a short video's sound, key frames, words and descriptions have, travels along as it is:
leaving a part in the object store takes a millisecond of a CPU. Below the 100 KiB that Ray sends along with a call."""


class Parts:
    """A result in parts, in order: all but ``SMALL_BYTES`` are in the object store. Iterating fetches each in turn."""

    def __init__(self, parts: Iterable[Any]) -> None:
        """Leaves the parts behind, wherever they belong."""
        self._parts: list[bytes | ray.ObjectRef[Any]] = []
        room = SMALL_BYTES
        for part in parts:
            packed = _packed(part, room)
            room -= len(packed) if isinstance(packed, bytes) else 0
            self._parts.append(packed)

    def __iter__(self) -> Iterator[Any]:
        for part in self._parts:
            yield pickle.loads(part) if isinstance(part, bytes) else ray.get(part)

    def __len__(self) -> int:
        return len(self._parts)


def _packed(part: Any, room: int) -> "bytes | ray.ObjectRef[Any]":
    """The part itself where it takes at most ``room`` bytes, else a reference to it."""
    buffers: list[pickle.PickleBuffer] = []  # arrays are not copied into what is measured
    head = pickle.dumps(part, protocol=5, buffer_callback=buffers.append)
    if len(head) + sum(buffer.raw().nbytes for buffer in buffers) > room:
        return ray.put(part)
    return pickle.dumps(part, protocol=5) if buffers else head


@dataclass(frozen=True)
class StageReply:
    """A worker's answer for one item: how it was measured and, unless it failed, its (small) value.

    ``node_id`` is Ray's name of the worker's node; ``peak_memory_bytes`` its process's largest resident set so far;
    ``model`` what it has loaded by now.
    """

    report: StageReport
    value: Any
    node_id: str
    peak_memory_bytes: int
    model: str | None = None


def is_device_failure(reply: StageReply) -> bool:
    """Whether nothing more can run in the worker's process."""
    failure = reply.report.failure
    return failure is not None and failure.error_type == DeviceFailure.__name__


@dataclass(frozen=True)
class WorkerInfo:
    """Identity of a worker, once everything is loaded."""

    worker: str
    node_id: str
    node: str
    device: str
    model: str | None
    pid: int


@dataclass(frozen=True)
class Share:
    """A batched call's answer for one item: its value, or the exception that says why there is none.

    ``weight``: how much of the batch's time it took, in any unit that all items of the batch have in common.
    """

    value: Any
    weight: float = 1.0


@dataclass(frozen=True)
class LoadedWorker:
    """Contents of a kind of worker: its calls by name, those of them that take a whole batch, and what was loaded.

    A plain call takes one item's arguments. A batched call takes a list of argument tuples and answers a list of
    ``Share``s, or of plain values, in the same order. ``makes`` says of what type the value of a call is, or every part
    of one that comes in parts; calls that are not named are not checked. ``model`` answers which one is loaded by now.
    ``niceness``: how far its process yields to the other kinds of workers. ``forgets``: it needs nothing of
    the environment that may be secret. ``peak_memory_bytes``: of a process that works for it.
    """

    calls: Mapping[str, Callable[..., Any]]
    batched: frozenset[str] = frozenset()
    makes: Mapping[str, type] = field(default_factory=dict)
    device: str = "cpu"
    model: Callable[[], str | None] = lambda: None
    niceness: int = 0
    forgets: bool = False
    peak_memory_bytes: Callable[[], int] = lambda: 0


class StageActor:
    """One worker. ``load`` runs in the worker's own process.

    Args:
        name: the worker's name in the ledger, unique in the cluster.
        held: fraction of a GPU, or CPUs, that the worker holds; seconds of run times it are resource seconds.
        log: how it logs; None: as its process does anyway.
    """

    def __init__(self, name: str, load: Callable[[], LoadedWorker], held: float, log: LogConfig | None = None) -> None:
        guard_output()
        set_private_umask()
        if log is not None:
            set_up_logging(log, worker=name, node=ray.util.get_node_ip_address())
        self._name = name
        self._held = held
        self._load_error: HeimdexError | None = None
        try:
            self._loaded = load()
            os.nice(self._loaded.niceness)
            if self._loaded.forgets:
                forget_environment(keep=RAYS_OWN)
        except HeimdexError as error:
            self._load_error = error
        except Exception as error:  # Ray's account of a constructor that raised buries the reason
            logger.exception(Event.WORKER_LOAD_FAILED, error=error, worker=name)
            self._load_error = ConfigurationError(failure_of(error).message)

    def __repr__(self) -> str:
        return SHOWN_PREFIX + self._name

    def describe(self) -> WorkerInfo:
        """Describe this worker. Raises what loading raised, so that the command that starts the cluster shows it."""
        if self._load_error is not None:
            raise self._load_error
        context = ray.get_runtime_context()
        return WorkerInfo(
            worker=self._name,
            node_id=context.get_node_id(),
            node=ray.util.get_node_ip_address(),
            device=self._loaded.device,
            model=self._loaded.model(),
            pid=os.getpid(),
        )

    def run(self, call: str, batch: Sequence[tuple[Any, ...]], about: Sequence[Fields] = ()) -> list[StageReply]:
        """Run ``call`` for every argument tuple of ``batch`` and answer in the same order; never raises for an item.

        ``about``: for each of them, the fields of what is logged meanwhile.
        In a batched call that fails, every item is run again alone, so that only the one at fault fails; after a
        device's error there is no more running in this process, which ends itself.
        """
        items = list(zip(batch, about or [{}] * len(batch), strict=True))
        replies = self._each(call, items) if call not in self._loaded.batched else self._at_once(call, items)
        if any(map(is_device_failure, replies)):
            _exit_soon()
        return replies

    @ray.method(concurrency_group=BESIDE)
    def run_beside(self, call: str, batch: Sequence[tuple[Any, ...]]) -> list[StageReply]:
        """As ``run``, beside the calls that run."""
        return self.run(call, batch)

    def _each(self, call: str, items: Sequence[_Item]) -> list[StageReply]:
        replies: list[StageReply] = []
        for arguments, about in items:
            with log_fields(**about):
                replies += self._timed(call, partial(self._alone, call, arguments), 1)
        return replies

    def _at_once(self, call: str, items: Sequence[_Item]) -> list[StageReply]:
        with log_fields(**_of_all([about for _, about in items])):
            replies = self._timed(call, partial(self._together, call, [item for item, _ in items]), len(items))
        if len(items) > 1 and all(reply.report.failure for reply in replies) and not is_device_failure(replies[0]):
            return [reply for item in items for reply in self._at_once(call, [item])]
        return replies

    @ray.method(concurrency_group=LIVENESS_GROUP)
    def wait_until_death(self) -> None:
        """Never returns: a waiting caller learns at once that the worker died, whatever it was running."""
        threading.Event().wait()

    def _alone(self, call: str, item: tuple[Any, ...]) -> list[Any]:
        return [self._loaded.calls[call](*item)]

    def _together(self, call: str, batch: Sequence[tuple[Any, ...]]) -> Sequence[Any]:
        results: Sequence[Any] = self._loaded.calls[call](batch)
        return results

    def _timed(self, call: str, work: Callable[[], Sequence[Any]], batch_size: int) -> list[StageReply]:
        started_s = time.monotonic()
        try:
            shares = [self._kept(call, result) for result in work()]
            if len(shares) != batch_size:
                raise RuntimeError(f"{len(shares)} results for {batch_size} items")
        except Exception as error:  # every failure of a stage is an answer; the scheduler decides what follows
            shares = [Share(self._failure(error))] * batch_size
        run_s = time.monotonic() - started_s
        whole = sum(share.weight for share in shares)
        # Linux counts KiB.
        own_memory_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        peak_memory_bytes = max(own_memory_bytes, self._loaded.peak_memory_bytes())
        node_id = ray.get_runtime_context().get_node_id()
        model = self._loaded.model()
        return [
            StageReply(
                self._report(share, run_s * (share.weight / whole if whole > 0 else 1 / batch_size), batch_size),
                None if isinstance(share.value, StageFailure) else share.value,
                node_id,
                peak_memory_bytes,
                model,
            )
            for share in shares
        ]

    def _kept(self, call: str, result: Any) -> Share:
        share = result if isinstance(result, Share) else Share(result)
        if isinstance(share.value, Exception):
            return replace(share, value=self._failure(share.value))
        return replace(share, value=_store_result(share.value, self._loaded.makes.get(call, object)))

    def _failure(self, error: Exception) -> StageFailure:
        if not isinstance(error, HeimdexError):
            logger.exception(Event.STAGE_DEFECT, error=error)
        clear_traceback_frames(error)
        return failure_of(error)

    def _report(self, share: Share, run_s: float, batch_size: int) -> StageReport:
        return StageReport(
            run_s=run_s,
            batch_size=batch_size,
            node=ray.util.get_node_ip_address(),
            worker=self._name,
            device=self._loaded.device,
            resource_s=run_s * self._held,
            failure=share.value if isinstance(share.value, StageFailure) else None,
        )


def remote_stage_actor(name: str = "worker", *, cpus: float, gpus: float = 0.0, at_once: int = 1) -> Any:
    """``StageActor`` for Ray, reserving so much. Nothing is repeated by Ray: that is the queue's.

    ``name``: Ray shows it as the actor's class and in the title of its process.
    ``at_once``: calls that may run at the same time; its worker's calls must allow that.
    """
    groups = {LIVENESS_GROUP: 1, BESIDE: 1}
    options: dict[str, Any] = {"max_restarts": 0, "max_task_retries": 0, "concurrency_groups": groups}
    if at_once > 1:
        options["max_concurrency"] = at_once
    return ray.remote(num_cpus=cpus, num_gpus=gpus, **options)(type(SHOWN_PREFIX + name, (StageActor,), {}))


def failure_of(error: BaseException) -> StageFailure:
    """An exception as the ledger states it: its type and its first line.

    An unexpected exception (a defect of ours or of a library) is identified by its type's name. Parts whose maker died
    are lost with it, an infrastructure failure that is not counted against this video.
    """
    if isinstance(error, ObjectLostError):
        error = NodeLost("the worker that held a part of this video's data died")
    if isinstance(error, ObjectStoreFullError | OutOfDiskError):
        error = NoSpace("the object store of the node is full")
    text = str(error).strip().splitlines()
    sentence = text[0] if text else "no further explanation"
    if not isinstance(error, HeimdexError):
        sentence = f"unexpected {type(error).__name__}: {sentence}"
    retry_after_s = error.retry_after_s if isinstance(error, Postponed) else None
    return StageFailure(type(error).__name__, redacted(_storable(sentence)), blame_of(error), retry_after_s)


def blame_of(error: BaseException) -> Blame:
    """Blame for a failure of this type; unexpected types count as errors."""
    for kind, blame in _BLAMES:
        if isinstance(error, kind):
            return blame
    return Blame.ERROR


_BLAMES = (
    (InvalidVideo, Blame.VIDEO),
    (WorkerCrash, Blame.CRASH),
    (Interrupted, Blame.INTERRUPTION),
    (Postponed, Blame.POSTPONEMENT),
)


def _storable(text: str) -> str:
    """``text`` as the database takes it, and Ray's log, which ends the process over what is no UTF-8."""
    return text.replace("\0", " ").encode(errors="replace").decode()


def _of_all(abouts: Sequence[Fields]) -> Fields:
    """The fields of a call for several videos: what they have in common, and the ids of all."""
    if len(abouts) == 1:
        return abouts[0]
    common = {name: value for name, value in abouts[0].items() if all(a.get(name) == value for a in abouts)}
    return {**common, "video_ids": [about["video_id"] for about in abouts if "video_id" in about]}


def _store_result(value: Any, promised: type) -> Any:
    """Exhaust a result that comes part by part, storing each part; other results pass.

    Raises MalformedResult when the value, or a part of it, is not of the type that was promised.
    """
    if isinstance(value, Iterator):
        return Parts(_checked(part, promised) for part in value)
    return _checked(value, promised)


def _checked(value: Any, promised: type) -> Any:
    if not isinstance(value, promised):
        raise MalformedResult(f"the stage answered {type(value).__name__} instead of {promised.__name__}")
    return value


def _exit_soon() -> None:
    """A CUDA context is unusable after an error: answer first, then leave; the pool starts a new worker."""
    timer = threading.Timer(0.5, os._exit, args=(1,))
    timer.daemon = True
    timer.start()
