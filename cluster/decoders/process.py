"""Decoding in a process of its own, which holds no secrets and can open nothing: the side that asks.

Owns that process's life, and what an answer may be: its bytes are read as if a stranger had sent them, for whatever
broke the decoder may have. What it decodes is the loader's that ``DecoderConfig`` names; ``child`` is the other
side.
"""

import fcntl
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.contracts.errors import (
    HeimdexError,
    InvalidVideo,
    MalformedResult,
    StageTimeout,
    TransientFailure,
    WorkerLost,
)
from cluster.decoders.answer_format import Unreadable, unpacked
from cluster.decoders.config import DONE, ERROR, FRAME, NUMBER, PART, READY, DecoderConfig
from cluster.decoders.log_relay import relay
from cluster.decoders.sandbox import scrubbed
from cluster.security.event_log import fields_of_call

START_TIMEOUT_S = 60.0
END_S = 1.0
"""Time that a process that has nothing more to do may take to end, and one that is killed."""
LARGEST_END_BYTES = 2**19
"""Size of the end of an answer: an error with its traceback, or a number."""
PIPE_BYTES = 2**20
"""Room for what a decoder answers: at the usual 64 KiB, both processes take turns several times for each key frame."""
_ERRORS: Mapping[str, type[HeimdexError]] = {error.__name__: error for error in (InvalidVideo, TransientFailure)}


class UnexpectedError(Exception):
    """Represents an error of a decoder that no caller branches on: a subclass is named as it was there."""


@dataclass(frozen=True)
class Answers:
    """What an answer may be: the dataclasses in it, its size in bytes, the seconds it may take."""

    types: Collection[type] = field(default=())
    max_bytes: int = 2**30
    timeout_s: float | None = None


class DecoderProcess:
    """One decoder process, started at first use and again when it has died. Safe to use from several threads."""

    def __init__(self, config: DecoderConfig, answers: Answers) -> None:
        self._config = config
        self._answers = answers
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._peak_memory_bytes = 0

    @property
    def peak_memory_bytes(self) -> int:
        """The largest resident set of a call so far."""
        return self._peak_memory_bytes

    @property
    def pid(self) -> int | None:
        """The process that is copied for each call; None before it is started."""
        return None if self._process is None else self._process.pid

    def __del__(self) -> None:
        self._end()

    def start(self) -> None:
        """Start it now, so that the first call need not wait until everything is loaded. Raises WorkerLost."""
        with self._lock:
            self._started()

    def close(self) -> None:
        """End the process, and with it what it decodes."""
        with self._lock:
            self._end()

    def call(self, name: str, *arguments: Any) -> Any:
        """The one value that the call answers.

        Raises:
            HeimdexError: the decoder raised it.
            WorkerLost: it ended before it answered: it crashed, or took more memory or time of a CPU than it may.
            StageTimeout: it took longer than it may, and was ended.
            UnexpectedError: any other error of the decoder.
        """
        return only(self.parts(name, *arguments))

    def parts(self, name: str, *arguments: Any) -> Generator[Any, None, None]:
        """What the call answers part by part; the decoder waits while none is taken. Raises as :meth:`call`."""
        with self.copy() as copy:
            yield from copy.parts(name, *arguments)

    def copy(self, readable: Path | None = None) -> "DecoderCopy":
        """A copy of the process, for one call or, one after another, several.

        ``readable``: a folder that it may read beside what its first call may. Raises WorkerLost.
        """
        request, reply = self._begin()
        return DecoderCopy(request, reply, self._answers, readable, self._note_peak)

    def _note_peak(self, memory_bytes: int) -> None:
        self._peak_memory_bytes = max(self._peak_memory_bytes, memory_bytes)

    def _begin(self) -> tuple[int, int]:
        """Ask for a copy of the process; returns where its requests go and its answers come from."""
        theirs_in, request = os.pipe()
        reply, theirs_out = os.pipe()
        with suppress(OSError):  # a user's pipes have a bound together; a small one only takes more turns
            fcntl.fcntl(reply, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        try:
            with self._lock:
                try:
                    socket.send_fds(self._started(), [b"!"], [theirs_in, theirs_out])
                except OSError:  # it has died since; it knows nothing of this call
                    self._end()
                    socket.send_fds(self._started(), [b"!"], [theirs_in, theirs_out])
        except BaseException:
            os.close(request)
            os.close(reply)
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        return request, reply

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._control = self._process = None

    def _started(self) -> socket.socket:
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        self._end()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-s", "-P", "-m", "cluster.decoders.child", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=_environment(),
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        assert self._process.stderr is not None
        relay(self._process.stderr)
        self._control = ours
        config = pickle.dumps(self._config, protocol=5)
        ours.settimeout(START_TIMEOUT_S)
        try:
            ours.sendall(NUMBER.pack(len(config)) + config)
            is_ready = ours.recv(1) == READY
        except OSError:
            is_ready = False
        if not is_ready:
            self._end()
            raise WorkerLost("the decoder process does not start: its log says why")
        ours.settimeout(None)
        return ours


def only(parts: Generator[Any, None, None]) -> Any:
    """The one part of an answer. Raises MalformedResult at the second, however many follow."""
    with closing(parts):
        for first in parts:
            for _ in parts:
                raise MalformedResult("the decoder answered more than one value")
            return first
    raise MalformedResult("the decoder answered nothing")


class DecoderCopy:
    """A copy of the decoder process: answers calls until it is closed, and is ended by one that comes to no end."""

    def __init__(
        self, request: int, reply: int, answers: Answers, readable: Path | None, note_peak: Callable[[int], None]
    ) -> None:
        self._request, self._reply = os.fdopen(request, "wb"), os.fdopen(reply, "rb", buffering=0)
        self._answer = _Answer(reply, answers)
        self._readable = readable
        self._note_peak = note_peak
        self._process: int | None = None
        self._pid = 0
        try:
            self._pid = self._answer.read_pid()
            self._process = os.pidfd_open(self._pid)
        except ProcessLookupError:
            self.close()
            raise WorkerLost("the decoder ended before it began") from None
        except BaseException:
            self.close()
            raise

    def __del__(self) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether it lives and can be asked again."""
        return self._process is not None and not self._has_ended(self._process, 0.0)

    @property
    def memory_bytes(self) -> int:
        """Bytes it holds now, as the kernel says (proc(5), statm): resident memory without what files have mapped."""
        try:
            _, resident, shared, *_ = Path(f"/proc/{self._pid}/statm").read_bytes().split()
        except (OSError, ValueError):  # it has ended
            return 0
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")

    def __enter__(self) -> "DecoderCopy":
        return self

    def __exit__(self, *_: object) -> None:
        """End it; its memory is free afterwards, so that a bound on how many decode at once is one on memory."""
        self._ask_no_more()
        if self._process is not None and not self._has_ended(self._process, END_S):
            self._kill()
        self.close()

    def close(self) -> None:
        """It has nothing more to answer, and ends on its own."""
        self._ask_no_more()
        self._reply.close()
        if self._process is not None:
            os.close(self._process)
        self._process = None

    def parts(self, name: str, *arguments: Any) -> Generator[Any, None, None]:
        """What the call answers part by part. Raises as ``DecoderProcess.call``."""
        is_at_end = False
        try:
            packed = pickle.dumps((self._readable, name, arguments, fields_of_call()), protocol=5)
            with suppress(BrokenPipeError):
                self._request.write(NUMBER.pack(len(packed)) + packed)
                self._request.flush()
            yield from self._answer.parts()
            is_at_end = True
            self._note_peak(self._answer.peak_memory_bytes)
        finally:
            if not is_at_end:
                self._kill()

    def _kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
            self._has_ended(self._process, END_S)
        self.close()

    def _ask_no_more(self) -> None:
        with suppress(BrokenPipeError):
            self._request.close()

    @staticmethod
    def _has_ended(process: int, within_s: float) -> bool:
        """Whether the process (a descriptor of it) ends in that time. The kernel frees its memory before it says so."""
        ended = select.poll()
        ended.register(process, select.POLLIN)
        return bool(ended.poll(within_s * 1000))


class _Answer:
    """What comes back on a pipe."""

    def __init__(self, descriptor: int, answers: Answers) -> None:
        self._descriptor = descriptor
        self._answers = answers
        self._end_s: float | None = None
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self.peak_memory_bytes = 0

    def read_pid(self) -> int:
        """The process that answers; its parent says so."""
        self._begin()
        return int(NUMBER.unpack(self._read(NUMBER.size))[0])

    def parts(self) -> Iterator[Any]:
        """Until the decoder says that it is done. Raises its error."""
        self._begin()
        while True:
            kind, size = FRAME.unpack(self._read(FRAME.size))
            if kind not in (PART, DONE, ERROR):
                raise MalformedResult("the decoder answered neither a value nor an end")
            if size > (self._answers.max_bytes if kind == PART else LARGEST_END_BYTES):
                raise MalformedResult(f"the decoder answered {size} bytes")
            value = _loads(self._read(size), self._answers.types if kind == PART else ())
            if kind == ERROR:
                raise _error(value)
            if kind == DONE:
                self.peak_memory_bytes = value if isinstance(value, int) else 0
                return
            yield value

    def _begin(self) -> None:
        if self._answers.timeout_s is not None:
            self._end_s = time.monotonic() + self._answers.timeout_s

    def _read(self, size: int) -> bytearray:
        found = bytearray(size)
        view, at = memoryview(found), 0
        while at < size:
            self._wait()
            count = os.readv(self._descriptor, [view[at:]])
            if count == 0:
                raise WorkerLost("the decoder died, or needed more memory or processor time than it may have")
            at += count
        return found

    def _wait(self) -> None:
        left_ms = None if self._end_s is None else max(0.0, self._end_s - time.monotonic()) * 1000
        if not self._poll.poll(left_ms):
            raise StageTimeout(f"the decoder took longer than {self._answers.timeout_s:g} s and was ended")


def _loads(message: bytearray, types: Collection[type]) -> Any:
    try:
        return unpacked(message, types)
    except Unreadable as error:
        raise MalformedResult(f"the decoder answered what cannot be read: {error}") from None


def _error(report: Any) -> Exception:
    """The decoder's error, as far as callers branch on it. Its traceback is a note."""
    match report:
        case (str(name), str(text), str(trace)):
            if name in _ERRORS:
                return _ERRORS[name](text)
            error: Exception = type(name if name.isidentifier() else "Exception", (UnexpectedError,), {})(text)
            error.add_note(trace)
            return error
    return MalformedResult("the decoder failed without saying why")


def _environment() -> dict[str, str]:
    """Nothing that may be secret; the decoders compute on as many threads as they are given, numpy's on one."""
    code = str(Path(__file__).parents[2])
    return {**scrubbed(os.environ), "PYTHONPATH": code, "OPENBLAS_NUM_THREADS": "1"}
