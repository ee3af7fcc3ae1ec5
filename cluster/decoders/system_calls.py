"""The system calls that a decoder process may make, and the filters that refuse all others.

Owns which calls there are for whom: the process that is copied for each file, and such a copy. Installing the filters
is ``sandbox``'s. A list of what is allowed: a call that a later kernel adds is refused without being named here.
"""

import errno
import os
import platform
import struct
from collections.abc import Mapping

Step = tuple[int, int, int, int]
"""An instruction of the classic packet filter: code, jump if true, jump if false, constant."""

_AUDIT_NUMBERS = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_COLUMNS = {"x86_64": 0, "aarch64": 1}
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # in struct seccomp_data
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO
_X32 = 0x40000000
_LAST_KNOWN = 470
"""Calls above it are newer than this list: they fail with ENOSYS, so that a C library falls back on an older one."""

_Numbers = Mapping[str, tuple[int | None, int | None]]
_PLAIN: _Numbers = {
    # files that are open, or whose opening Landlock checks
    "read": (0, 63), "readv": (19, 65), "pread64": (17, 67), "preadv": (295, 69), "write": (1, 64), "writev": (20, 66),
    "close": (3, 57), "close_range": (436, 436), "fadvise64": (221, 223),
    "getdents": (78, None), "getdents64": (217, 61), "poll": (7, None), "ppoll": (271, 73), "select": (23, None),
    "pselect6": (270, 72),
    # what is known of files
    "stat": (4, None), "fstat": (5, 80), "lstat": (6, None), "newfstatat": (262, 79), "statx": (332, 291),
    "access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439), "readlink": (89, None),
    "readlinkat": (267, 78), "getcwd": (79, 17), "statfs": (137, 43), "fstatfs": (138, 44),
    # memory
    "mmap": (9, 222), "munmap": (11, 215), "mprotect": (10, 226), "mremap": (25, 216), "brk": (12, 214),
    "madvise": (28, 233),
    # threads and the process itself
    "futex": (202, 98), "set_robust_list": (273, 99), "rseq": (334, 293), "set_tid_address": (218, 96),
    "membarrier": (324, 283), "sched_yield": (24, 124), "sched_getaffinity": (204, 123), "getcpu": (309, 168),
    "exit": (60, 93), "exit_group": (231, 94), "restart_syscall": (219, 128),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "getpid": (39, 172), "gettid": (186, 178), "getppid": (110, 173), "getuid": (102, 174), "geteuid": (107, 175),
    "getgid": (104, 176), "getegid": (108, 177), "getrlimit": (97, 163), "setrlimit": (160, 164),
    "getrusage": (98, 165),
    # time, chance, the machine
    "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153), "getrandom": (318, 278), "uname": (63, 160),
    "sysinfo": (99, 179),
}  # fmt: skip
"""By name: the numbers on x86-64 and ARM64. Allowed with any arguments."""

_OF_THE_PROCESS: _Numbers = {
    "recvmsg": (47, 212), "recvfrom": (45, 207), "sendmsg": (46, 211), "sendto": (44, 206),  # its one socket
    "wait4": (61, 260), "fcntl": (72, 25), "tgkill": (234, 131), "prctl": (157, 167),
    "landlock_create_ruleset": (444, 444), "landlock_add_rule": (445, 445), "landlock_restrict_self": (446, 446),
}  # fmt: skip
"""Allowed until a copy confines itself further."""

_CHECKED: _Numbers = {
    "open": (2, None), "openat": (257, 56), "openat2": (437, 437), "lseek": (8, 62), "fcntl": (72, 25),
    "ioctl": (16, 29), "clone": (56, 220), "clone3": (435, 435), "tgkill": (234, 131), "prctl": (157, 167),
    "prlimit64": (302, 261), "futex_waitv": (449, 449),
}  # fmt: skip

_WRITING = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC | 0x400000  # __O_TMPFILE without O_DIRECTORY
_CLONE_THREAD, _CLONE_NEW_NAMESPACES = 0x00010000, 0x7E020000
_F_GETFD, _F_SETFD, _F_GETFL, _F_DUPFD_CLOEXEC = 1, 2, 3, 1030
_TCGETS, _TCGETS2, _FIOCLEX, _FIONCLEX = 0x5401, 0x802C542A, 0x5451, 0x5450
_PR_SET_NAME, _PR_GET_NAME, _PR_GET_NO_NEW_PRIVS, _PR_SET_VMA = 15, 16, 39, 0x53564D41
_STANDARD_ERROR = 2


def is_known(machine: str) -> bool:
    """Whether the numbers of this architecture's calls are known."""
    return machine in _COLUMNS


def filter_of_process() -> bytes:
    """The filter of the process that is copied: it serves one socket, starts copies and confines them further."""
    rules = {
        **_both(),
        "clone": _without_bits(0, _CLONE_NEW_NAMESPACES, errno.EPERM),
    }
    return _program({**_PLAIN, **_OF_THE_PROCESS}, rules)


def filter_of_copy() -> bytes:
    """The filter of the calling process, a copy: it reads files, computes, answers; it reaches no other process."""
    rules = {
        **_both(),
        "lseek": _but_not(0, _STANDARD_ERROR, errno.ESPIPE, [(_RETURN, 0, 0, _ALLOW)]),
        "fcntl": _but_not(0, _STANDARD_ERROR, errno.EPERM, _one_of(1, _F_GETFD, _F_SETFD, _F_GETFL, _F_DUPFD_CLOEXEC)),
        "clone": _with_bits(0, _CLONE_THREAD),
        "tgkill": _one_of(0, os.getpid()),
        "prctl": _one_of(0, _PR_SET_NAME, _PR_GET_NAME, _PR_GET_NO_NEW_PRIVS, _PR_SET_VMA),
    }
    return _program(_PLAIN, rules)


def allowed_numbers() -> set[int]:
    """The calls that a copy may make, some of them with certain arguments only."""
    column = _COLUMNS[platform.machine()]
    found = (numbers[column] for names in (_PLAIN, _CHECKED) for numbers in names.values())
    return {number for number in found if number is not None}


def _both() -> dict[str, list[Step]]:
    """The rules that hold for the process and its copies. ENOSYS has a C library use the call of which there is one."""
    return {
        "open": _without_bits(1, _WRITING, errno.EACCES),
        "openat": _without_bits(2, _WRITING, errno.EACCES),
        "openat2": [(_RETURN, 0, 0, _FAIL | errno.ENOSYS)],
        "clone3": [(_RETURN, 0, 0, _FAIL | errno.ENOSYS)],
        "futex_waitv": [(_RETURN, 0, 0, _FAIL | errno.ENOSYS)],
        "lseek": [(_RETURN, 0, 0, _ALLOW)],
        "ioctl": _one_of(1, _TCGETS, _TCGETS2, _FIOCLEX, _FIONCLEX),
        "prlimit64": _one_of(0, 0),
    }


def _program(plain: _Numbers, rules: Mapping[str, list[Step]]) -> bytes:
    """The instructions, from the first to the first that returns. Each call's rule comes right after its comparison."""
    machine = platform.machine()
    column = _COLUMNS[machine]
    steps: list[Step] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_IF_EQUAL, 1, 0, _AUDIT_NUMBERS[machine]),
        (_RETURN, 0, 0, _FAIL | errno.EPERM),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_IF_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _FAIL | errno.EPERM),
    ]
    by_name = {name: ([(_RETURN, 0, 0, _ALLOW)], numbers[column]) for name, numbers in plain.items()}
    by_name |= {name: (rule, _CHECKED[name][column]) for name, rule in rules.items()}
    for rule, number in by_name.values():
        if number is not None:
            steps += [(_IF_EQUAL, 0, len(rule), number), *rule]
    steps += [
        (_IF_AT_LEAST, 0, 1, _LAST_KNOWN + 1),
        (_RETURN, 0, 0, _FAIL | errno.ENOSYS),
        (_RETURN, 0, 0, _FAIL | errno.EPERM),
    ]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def _argument(place: int) -> Step:
    """Load the lower half of an argument, the only one that the kernel looks at in those that are checked."""
    return (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * place)


def _one_of(place: int, *values: int) -> list[Step]:
    compared = [step for value in values for step in ((_IF_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW))]
    return [_argument(place), *compared, (_RETURN, 0, 0, _FAIL | errno.EPERM)]


def _but_not(place: int, value: int, error: int, otherwise: list[Step]) -> list[Step]:
    return [_argument(place), (_IF_EQUAL, 0, 1, value), (_RETURN, 0, 0, _FAIL | error), *otherwise]


def _with_bits(place: int, bits: int) -> list[Step]:
    return [
        _argument(place),
        (_IF_ANY_BIT, 0, 1, bits),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _FAIL | errno.EPERM),
    ]


def _without_bits(place: int, bits: int, error: int) -> list[Step]:
    return [
        _argument(place),
        (_IF_ANY_BIT, 0, 1, bits),
        (_RETURN, 0, 0, _FAIL | error),
        (_RETURN, 0, 0, _ALLOW),
    ]
