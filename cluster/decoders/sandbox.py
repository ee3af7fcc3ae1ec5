"""What a process that decodes strangers' bytes is kept from: secrets, privileges, sockets, files, memory.

Owns the restrictions and whether this kernel has them. Each is put in place by the process itself, for good; what it
decodes, and by whom it is started, is ``process``'s; which system calls it needs is ``system_calls``'. No
library: the restrictions are few, and the same on both architectures.
"""

import ctypes
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cluster.decoders import system_calls

_HARMLESS = {
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM", "PWD", "VIRTUAL_ENV",
    "LD_LIBRARY_PATH", "LD_PRELOAD", "MALLOC_ARENA_MAX", "KMP_DUPLICATE_LIB_OK", "KMP_BLOCKTIME",
}  # fmt: skip
_HARMLESS_PREFIXES = ("LC_", "PYTHON", "OMP_", "OPENBLAS_", "MKL_", "CUDA_", "NVIDIA_", "COVERAGE_")

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = 1, 4, 22, 38, 39
_SECCOMP_MODE_FILTER = 2
_PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 24, 47, 4
_CAPABILITY_HEADER = struct.pack("Ii", 0x20080522, 0)
"""Version 3, this process (capset(2))."""
_CAP_DAC_READ_SEARCH = 2
_STEP_BYTES = 8  # struct sock_filter

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_ALL_OF_FILES = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_ALL_OF_FILES_SINCE_5 = (1 << 16) - 1
_ALL_OF_TCP, _ALL_SCOPES = 0b11, 0b11

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Confinement:
    """What this kernel can keep a decoder from."""

    sockets: bool
    """New sockets, new programs, other processes and all that changes files, by seccomp."""
    files: bool
    """Files that were not named, by Landlock."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return self.sockets and self.files

    def __str__(self) -> str:
        parts = [
            "no sockets" if self.sockets else "NOT kept from sockets (no seccomp on this kernel or architecture)",
            "no files but their own" if self.files else "NOT kept from files (no Landlock on this kernel)",
        ]
        return "no secrets, no new privileges, " + ", ".join(parts)


@cache
def available() -> Confinement:
    """What this kernel offers; changes nothing."""
    seccomp = system_calls.is_known(platform.machine()) and Path("/proc/sys/kernel/seccomp/actions_avail").exists()
    return Confinement(sockets=seccomp, files=_landlock_version() > 0)


# The environment


def is_harmless(name: str) -> bool:
    """Whether a variable of this name is known to hold no secret: all others are kept from decoders."""
    return name in _HARMLESS or name.startswith(_HARMLESS_PREFIXES)


def scrubbed(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of ``environment`` that are known to hold no secret."""
    return {name: value for name, value in environment.items() if is_harmless(name)}


def forget_environment(keep: tuple[str, ...] = ()) -> None:
    """Take every variable that may hold a secret from this process, and from /proc/PID/environ too.

    Those whose names begin with one of ``keep`` stay.

    For processes that were started by others: a process of ours starts without.
    """
    for name in [name for name in os.environ if not is_harmless(name) and not name.startswith(keep)]:
        _overwrite(name)
        del os.environ[name]


def _overwrite(name: str) -> None:
    """The kernel shows others the memory in which a process found its environment when it began (proc(5), environ)."""
    start, end = _initial_environment()
    memory = ctypes.string_at(start, end - start)
    sought, at = os.fsencode(name) + b"=", 0
    for entry in memory.split(b"\0"):
        if entry.startswith(sought):
            ctypes.memset(start + at + len(sought), ord("-"), len(entry) - len(sought))
        at += len(entry) + 1


def _initial_environment() -> tuple[int, int]:
    """Where it is in memory: ``env_start`` and ``env_end`` of proc(5), stat."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return int(fields[47]), int(fields[48])


# The kernel


def confine_process() -> Confinement:
    """Keep this process, and all copies of it, from privileges and from calls that serving decoders does not need.

    Returns what the kernel offers: it may lack seccomp or Landlock.

    Raises:
        OSError: the kernel offers a restriction and refuses to put it in place.
    """
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _drop_capabilities()
    offered = available()
    if offered.sockets:
        _install(system_calls.filter_of_process())
    return offered


def confine_copy(readable: Iterable[Path]) -> None:
    """Keep a copy of a confined process from files other than ``readable``, other processes, and all further calls.

    Raises:
        OSError: as ``confine_process``.
    """
    offered = available()
    if offered.files:
        _restrict_files(readable)
    if offered.sockets:
        _install(system_calls.filter_of_copy())


def end_with_parent() -> None:
    """Have the kernel end this process when the one that started it ends."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0))


def bound(memory_bytes: int | None, cpu_s: int | None) -> None:
    """Bound this process's memory (RLIMIT_AS) and processor time; it dumps no core."""
    for limit, value in ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_CPU, cpu_s)):
        if value is not None:
            resource.setrlimit(limit, (value, value))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def readable_code() -> list[Path]:
    """What a Python process of ours may have to read after its start: code, libraries, time zones, and of itself."""
    root = Path(__file__).parents[2]
    places = [
        *(Path(prefix) for prefix in (sys.prefix, sys.base_prefix)),
        *(root / package for package in ("cluster", "actors")),
        *map(Path, ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/proc/self")),
        *map(Path, ("/sys/devices/system/cpu", "/dev/null", "/dev/zero", "/dev/urandom")),
    ]
    return [place for place in places if place.exists()]


def _drop_capabilities() -> None:
    """capabilities(7): of root's, all that changes anything is gone.

    Reading the files of other accounts is left where Landlock names the files: videos may be another account's.
    """
    held = ctypes.create_string_buffer(24)
    _check(_libc.capget(_CAPABILITY_HEADER, held))
    _, permitted, *_ = struct.unpack("6I", held.raw)
    kept = permitted & (1 << _CAP_DAC_READ_SEARCH) if available().files else 0
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    capability = 0
    while _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:  # until the last, or at once where it may not
        capability += 1
    _check(_libc.capset(_CAPABILITY_HEADER, struct.pack("6I", kept, kept, 0, 0, 0, 0)))


def _install(instructions: bytes) -> None:
    """seccomp(2): a filter of the classic packet filter's instructions."""
    program = ctypes.create_string_buffer(instructions)
    header = struct.pack("HxxxxxxP", len(instructions) // _STEP_BYTES, ctypes.addressof(program))
    _check(_libc.prctl(PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0))


def _restrict_files(readable: Iterable[Path]) -> None:
    """landlock(7): nothing is written, made, removed or run, and nothing read but below ``readable``."""
    version = _landlock_version()
    rights = _ALL_OF_FILES.get(version, _ALL_OF_FILES_SINCE_5)
    attributes = struct.pack(
        "QQQ", rights, _ALL_OF_TCP if version >= 4 else 0, _ALL_SCOPES if version >= 6 else 0
    )[: 24 if version >= 6 else 16 if version >= 4 else 8]  # fmt: skip
    rules = _check(_libc.syscall(_LANDLOCK_CREATE, attributes, len(attributes), 0))
    try:
        for place in readable:
            _allow_reading(rules, place)
        _check(_libc.syscall(_LANDLOCK_RESTRICT, rules, 0))
    finally:
        os.close(rules)


def _allow_reading(rules: int, place: Path) -> None:
    try:
        found = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # opening it says why
        return
    try:
        rights = _READ_FILE | (_READ_FOLDER if place.is_dir() else 0)
        _check(_libc.syscall(_LANDLOCK_ADD, rules, 1, struct.pack("=Qi", rights, found), 0))
    finally:
        os.close(found)


@cache
def _landlock_version() -> int:
    return max(0, int(_libc.syscall(_LANDLOCK_CREATE, None, 0, 1)))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
