"""The process that decodes for another one: ``python -m cluster.decoders.child FD``, started by ``process``.

It loads the decoders once, confines itself, and makes a copy of itself (fork) for each call or series of calls:
what one file does to its decoder, the next series never meets, and memory and time of each are its own. Fork is safe
here alone: this process has one thread and no connection but the one that it is asked by.
"""

import array
import ctypes
import gc
import importlib
import os
import pickle
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO

from cluster.decoders.answer_format import packed
from cluster.decoders.config import DONE, ERROR, FRAME, NUMBER, PART, READY, DecoderConfig, Decoders
from cluster.decoders.sandbox import bound, confine_copy, confine_process, end_with_parent
from cluster.security.event_log import log_fields
from cluster.security.log_output import LogConfig, set_up_logging
from cluster.security.visible import guard_output

LONGEST_TEXT = 2**15
"""Of an error, in characters: each text of it."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def serve(control: socket.socket) -> None:
    """Answer requests until the other end of ``control`` is closed."""
    config: DecoderConfig = pickle.loads(_read_exactly(control, NUMBER.unpack(_read_exactly(control, NUMBER.size))[0]))
    module, _, function = config.loader.partition(":")
    decoders: Decoders = getattr(importlib.import_module(module), function)(*config.arguments)
    guard_output()
    set_up_logging(LogConfig(format="json"))
    os.nice(decoders.niceness)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel clears them away
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which ends this one
    confine_process()
    gc.freeze()  # else the first collection in each copy copies all of it
    control.sendall(READY)
    while True:
        _, ancillary, _, _ = control.recvmsg(1, socket.CMSG_SPACE(2 * array.array("i").itemsize))
        if not ancillary:
            return
        request, answer = array.array("i", ancillary[0][2])
        pid = os.fork()
        if pid == 0:
            control.close()
            _work(decoders, request, answer)
        with suppress(OSError):  # who asked is gone already
            os.write(answer, NUMBER.pack(pid))
        os.close(request)
        os.close(answer)


def _work(decoders: Decoders, request: int, answer: int) -> None:
    """Answer a series of requests in a process of its own; does not return."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        end_with_parent()
        bound(decoders.memory_bytes, decoders.cpu_s)
        with os.fdopen(request, "rb") as incoming, os.fdopen(answer, "wb") as outgoing:
            is_confined = False
            while size := incoming.read(NUMBER.size):
                folder, name, arguments, fields = pickle.loads(incoming.read(NUMBER.unpack(size)[0]))
                if not is_confined:
                    readable = [] if decoders.readable is None else decoders.readable(*arguments)
                    confine_copy(readable if folder is None else [folder, *readable])
                    if folder is not None:
                        _keep_freed_memory()
                    is_confined = True
                with log_fields(**fields):
                    _answer(decoders.calls[name], arguments, outgoing)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _keep_freed_memory() -> None:
    """Have glibc keep up to 64 MiB that one call frees for the next: mallopt(3). Other C libraries decide themselves.

    Returned to the kernel and taken again, the memory costs a page fault for every 4 KiB: a fifth of the processor time
    that a clip of two seconds takes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
        mallopt(_M_TRIM_THRESHOLD, 64 * 2**20)


def _answer(call: Callable[..., Any], arguments: tuple[Any, ...], outgoing: BinaryIO) -> None:
    try:
        result = call(*arguments)
        for part in result if isinstance(result, Iterator) else (result,):
            _send(outgoing, PART, part)
    except Exception as error:
        report = (type(error).__name__, str(error)[:LONGEST_TEXT], traceback.format_exc()[-LONGEST_TEXT:])
        _send(outgoing, ERROR, report)
    else:
        _send(outgoing, DONE, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)  # Linux counts KiB


def _send(outgoing: BinaryIO, kind: bytes, value: object) -> None:
    pieces = packed(value)
    outgoing.write(FRAME.pack(kind, sum(map(len, pieces))))
    for piece in pieces:
        outgoing.write(piece)
    outgoing.flush()


def _read_exactly(control: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        more = control.recv(size - len(found))
        if not more:
            sys.exit(0)
        found += more
    return bytes(found)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
