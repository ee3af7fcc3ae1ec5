"""System calls that a confined decoder is refused, tried from a real one; on older versions of Landlock as well."""

import errno
import os
import platform
import re
import signal
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.contracts.errors import WorkerLost
from cluster.decoders import system_calls
from cluster.decoders.config import DecoderConfig
from cluster.decoders.process import Answers, DecoderProcess
from cluster.decoders.sandbox import available
from tests.support.forbidden_calls import NUMBERS
from tests.support.missing_part import skip_but_on_ci

REFUSED = {errno.EPERM, errno.EACCES, errno.ENOSYS}
AT_HERE = -100
NOW = struct.pack("4q", 0, 0, 0, 0)
F_SETFL, F_SETOWN, F_SETSIG, F_SETPIPE_SZ, F_DUPFD, F_DUPFD_CLOEXEC = 4, 8, 10, 1031, 0, 1030
TIOCSTI, FIOSETOWN = 0x5412, 0x8901
ENDS_ITSELF = {335, 336} if platform.machine() == "x86_64" else set()
"""uretprobe and uprobe, which Linux has no filter of: a process that makes them without a probe is killed."""


@dataclass(frozen=True)
class World:
    """A decoder with one file that it may read, a secret beside it, and another process."""

    decoder: DecoderProcess
    own: Path
    secret: Path
    other: int
    has_landlock: bool


@pytest.fixture(scope="module", params=[99, 1, 0], ids=["landlock", "landlock-1", "no-landlock"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if not available().sockets:
        skip_but_on_ci("this kernel has no seccomp")
    folder = tmp_path_factory.mktemp("files")
    own, secret = folder / "own", folder / "secret"
    for path in (own, secret):
        path.write_text("top secret")
        path.chmod(0o600)
    decoder = DecoderProcess(
        DecoderConfig("tests.support.forbidden_calls:load", (request.param, own)), Answers(timeout_s=60.0)
    )
    with subprocess.Popen(["sleep", "600"]) as other:
        yield World(decoder, own, secret, other.pid, request.param > 0 and available().files)
        assert other.poll() is None
        other.kill()
    decoder.close()


def _on_files(path: bytes, new: bytes) -> dict[str, tuple[Any, ...]]:
    return {
        "chmod": (path, 0o666), "fchmodat": (AT_HERE, path, 0o666), "fchmodat2": (AT_HERE, path, 0o666, 0),
        "chown": (path, 1, 1), "lchown": (path, 1, 1), "fchownat": (AT_HERE, path, 1, 1, 0), "utime": (path, 0),
        "utimes": (path, 0), "futimesat": (AT_HERE, path, 0), "utimensat": (AT_HERE, path, NOW, 0),
        "setxattr": (path, b"user.x", b"1", 1, 0), "lsetxattr": (path, b"user.x", b"1", 1, 0),
        "removexattr": (path, b"user.x"), "truncate": (path, 0), "link": (path, new), "rename": (path, new),
        "linkat": (AT_HERE, path, AT_HERE, new, 0), "symlink": (path, new), "symlinkat": (path, AT_HERE, new),
        "renameat": (AT_HERE, path, AT_HERE, new), "renameat2": (AT_HERE, path, AT_HERE, new, 0), "unlink": (path,),
        "unlinkat": (AT_HERE, path, 0), "mkdir": (new, 0o700), "mkdirat": (AT_HERE, new, 0o700), "rmdir": (new,),
        "mknod": (new, 0o100600, 0), "mknodat": (AT_HERE, new, 0o100600, 0), "creat": (new, 0o600),
    }  # fmt: skip


def _on_processes(pid: int) -> dict[str, tuple[Any, ...]]:
    signal_info = struct.pack("iii", 0, 0, -1) + bytes(116)
    return {
        "kill": (pid, 0), "tkill": (pid, 0), "rt_sigqueueinfo": (pid, 15, signal_info),
        "rt_tgsigqueueinfo": (pid, pid, 15, signal_info), "pidfd_open": (pid, 0), "setpriority": (0, pid, 19),
        "ioprio_set": (1, pid, 3 << 13), "sched_setaffinity": (pid, 8, bytes([1] + [0] * 7)),
        "sched_setscheduler": (pid, 3, bytes(4)), "sched_setparam": (pid, bytes(4)), "ptrace": (16, pid, 0, 0),
        "migrate_pages": (pid, 0, 0, 0), "setpgid": (0, 0),
    }  # fmt: skip


MADE = {
    "shmget": (0x48454D, 4096, 0o1600), "semget": (0x48454D, 1, 0o1600), "msgget": (0x48454D, 0o1600),
    "mq_open": (b"heimdex", 0o102, 0o600, 0), "memfd_create": (b"x", 0), "dup": (2,), "eventfd2": (0, 0),
    "socket": (1, 1, 0), "socketpair": (1, 1, 0, bytes(8)), "pipe2": (bytes(8), 0), "inotify_init1": (0,), "fork": (),
    "vfork": (), "timer_create": (0, 0, bytes(8)), "userfaultfd": (1,), "personality": (0xFFFFFFFF,), "setsid": (),
    "adjtimex": (bytes(256),), "unshare": (0x10000000,),
}  # fmt: skip
"""Calls that make or change something of the process itself."""


@pytest.mark.parametrize("name", sorted(_on_files(b"", b"")))
def test_decoder_changes_no_file(world: World, name: str) -> None:
    new = world.secret.parent / "new"
    before = world.secret.stat()
    for path in (world.secret, world.own):
        answer, error = world.decoder.call("call", name, *_on_files(bytes(path), bytes(new))[name])
        assert (answer, error in REFUSED) == (-1, True), os.strerror(error)
    assert world.secret.stat() == before
    assert world.secret.read_text() == world.own.read_text() == "top secret"
    assert not new.exists()


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_TRUNC, os.O_CREAT, os.O_TMPFILE | os.O_RDWR])
def test_decoder_opens_no_file_for_writing(world: World, flags: int) -> None:
    folder = world.own.parent
    for path in (folder,) if flags & os.O_TMPFILE == os.O_TMPFILE else (world.own, world.secret, folder / "new"):
        assert world.decoder.call("open", str(path), flags) in REFUSED
    assert world.own.read_text() == world.secret.read_text() == "top secret"
    assert {path.name for path in folder.iterdir()} == {"own", "secret"}


@pytest.mark.parametrize("name", sorted(_on_processes(0)))
def test_decoder_touches_no_other_process(world: World, name: str) -> None:
    for pid in (world.other, os.getpid()):
        if pid != os.getpid() or name not in ("rt_sigqueueinfo", "rt_tgsigqueueinfo"):
            answer, error = world.decoder.call("call", name, *_on_processes(pid)[name])
            assert (answer, error in REFUSED) == (-1, True), os.strerror(error)
    assert psutil.Process(world.other).nice() == psutil.Process().nice()


def test_decoder_limits_and_signals_no_process(world: World) -> None:
    assert world.decoder.call("prlimit", world.other) == (-1, errno.EPERM)
    for number in (0, signal.SIGTERM):
        assert world.decoder.call("tgkill", world.other, int(number)) == (-1, errno.EPERM)
    for command, value in ((F_SETOWN, world.other), (F_SETSIG, 9), (F_SETFL, 0o20000), (F_SETPIPE_SZ, 1), (F_DUPFD, 0)):
        for descriptor in (0, 2):
            assert world.decoder.call("fcntl", descriptor, command, value) == (-1, errno.EPERM)
    assert world.decoder.call("fcntl", 2, F_DUPFD_CLOEXEC, 0) == (-1, errno.EPERM)
    assert world.decoder.call("fcntl", 0, F_DUPFD_CLOEXEC, 0)[0] > 2
    for command in (TIOCSTI, FIOSETOWN):
        assert world.decoder.call("ioctl", 2, command) == (-1, errno.EPERM)


def test_decoder_starts_no_process(world: World) -> None:
    assert world.decoder.call("fork") == errno.EPERM
    assert world.decoder.call("clone") == (-1, errno.EPERM)
    assert world.decoder.call("clone3") == (-1, errno.ENOSYS)
    assert world.decoder.pid is not None
    assert not psutil.Process(world.decoder.pid).children(recursive=True)


@pytest.mark.parametrize("name", sorted(MADE))
def test_decoder_makes_nothing_that_stays(world: World, name: str) -> None:
    answer, error = world.decoder.call("call", name, *MADE[name])
    assert (answer, error in REFUSED) == (-1, True), os.strerror(error)


def test_decoder_is_refused_every_other_call(world: World) -> None:
    allowed = system_calls.allowed_numbers()
    numbers = [number for number in range(600) if number not in allowed | ENDS_ITSELF]
    assert not {each[0] for each in NUMBERS.values()} & allowed
    for number, (answer, error) in zip(numbers, world.decoder.call("by_number", numbers), strict=True):
        expected = errno.ENOSYS if number > 470 else errno.EPERM
        assert (answer, error) == (-1, expected), number


def test_decoder_is_filtered_before_it_is_copied(world: World) -> None:
    world.decoder.start()
    assert world.decoder.pid is not None
    assert "Seccomp:\t2\n" in Path(f"/proc/{world.decoder.pid}/status").read_text()


def test_decoder_has_no_capability_but_to_read_its_own_files(world: World) -> None:
    status = world.decoder.call("status")
    sets = dict(re.findall(r"^Cap(\w+):\t([0-9a-f]+)$", status, re.MULTILINE))
    assert {int(sets[name], 16) for name in ("Inh", "Amb")} == {0}
    kept = 1 << 2 if os.geteuid() == 0 and world.has_landlock else 0  # CAP_DAC_READ_SEARCH
    assert {int(sets[name], 16) for name in ("Prm", "Eff")} == {kept}
    if os.geteuid() == 0:
        assert re.search(r"^CapBnd:\t0+$", status, re.MULTILINE)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_decodes_another_accounts_video_and_nothing_else(world: World) -> None:
    for path in (world.own, world.secret):
        os.chown(path, 65534, 65534)
    try:
        assert (world.decoder.call("open", str(world.own), os.O_RDONLY) == 0) == world.has_landlock
        assert world.decoder.call("open", str(world.secret), os.O_RDONLY) != 0
    finally:
        for path in (world.own, world.secret):
            os.chown(path, 0, 0)


def test_decoder_still_has_threads_and_dies_by_abort(world: World) -> None:
    assert len(world.decoder.call("thread")) == 1
    assert world.decoder.call("open", str(world.own), os.O_RDONLY) == 0
    with pytest.raises(WorkerLost):
        world.decoder.call("abort")
