"""Acts that a confined decoder must be refused, each as one system call; by number, as an exploit would make it."""

import ctypes
import os
import platform
import signal
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.decoders import sandbox
from cluster.decoders.config import Decoders
from cluster.decoders.sandbox import readable_code

COLUMN = {"x86_64": 0, "aarch64": 1}.get(platform.machine(), 0)
NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "utimensat": (280, 88), "futimesat": (261, None), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr":
    (190, 7), "removexattr": (197, 14), "truncate": (76, 45), "ftruncate": (77, 46), "fallocate": (285, 47),
    "link": (86, None), "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36), "rename": (82, None),
    "renameat": (264, 38), "renameat2": (316, 276), "unlink": (87, None), "unlinkat": (263, 35), "rmdir": (84,
    None), "mkdir": (83, None), "mkdirat": (258, 34), "mknod": (133, None), "mknodat": (259, 33), "creat": (85,
    None), "kill": (62, 129), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434), "setpriority": (141, 140), "ioprio_set": (251, 30),
    "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119), "sched_setattr": (314, 274),
    "sched_setparam": (142, 118), "migrate_pages": (256, 238), "move_pages": (279, 239), "shmget": (29, 194),
    "shmat": (30, 196), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180), "memfd_create": (319,
    279), "memfd_secret": (447, 447), "reboot": (169, 142), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "mount": (165, 40), "umount2": (166, 39), "move_mount":
    (429, 429), "fsopen": (430, 430), "open_tree": (428, 428), "mount_setattr": (442, 442), "pivot_root": (155,
    41), "chroot": (161, 51), "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311,
    271), "process_madvise": (440, 440), "kcmp": (312, 272), "bpf": (321, 280), "perf_event_open": (298, 241),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "open_by_handle_at": (304, None), "name_to_handle_at": (303, None), "unshare":
    (272, 97), "setns": (308, 268), "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "quotactl":
    (179, 60), "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime":
    (305, 266), "personality": (135, 92), "seccomp": (317, 277), "capset": (126, 91), "setuid": (105, 146),
    "setgid": (106, 144), "setsid": (112, 157), "setpgid": (109, 154), "sethostname": (170, 161), "syslog": (103,
    116), "socket": (41, 198), "socketpair": (53, 199), "execve": (59, 221), "execveat": (322, 281), "fork": (57,
    None), "vfork": (58, None), "dup": (32, 23), "pipe2": (293, 59), "eventfd2": (290, 19), "inotify_init1": (294,
    26), "fanotify_init": (300, 262), "landlock_create_ruleset": (444, 444), "timer_create": (222, 107),
    "copy_file_range": (326, 285), "pwrite64": (18, 68),
}  # fmt: skip

FAILED = -1
_libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: Any) -> tuple[int, int]:
    """The result of the call and its errno; of a call that this architecture has not, that it is not implemented."""
    number = NUMBERS[name][COLUMN]
    return (-1, 38) if number is None else call_by_number(number, *arguments)


def call_by_number(number: int, *arguments: Any) -> tuple[int, int]:
    """The same by number."""
    ctypes.set_errno(0)
    answer = _libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    return answer, ctypes.get_errno()


def load(landlock: int, readable: Path) -> Decoders:
    """``landlock``: the newest version of it that the process finds; 0: none."""
    found = min(landlock, sandbox._landlock_version())
    sandbox._landlock_version = lambda: found  # type: ignore[assignment]
    sandbox.available.cache_clear()
    calls: dict[str, Callable[..., Any]] = {
        "call": call,
        "by_number": lambda numbers: [call_by_number(number, *[-1] * 6) for number in numbers],
        "open": lambda path, flags: _errno_of(lambda: os.close(os.open(path, flags))),
        "fork": lambda: _errno_of(_fork),
        "clone": lambda: call_by_number((56, 220)[COLUMN], int(signal.SIGCHLD), 0, 0, 0, 0),
        "clone3": lambda: call_by_number(435, struct.pack("11Q", 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0), 88),
        "prlimit": lambda pid: call_by_number((302, 261)[COLUMN], pid, 1, struct.pack("QQ", 4096, 2**40), 0),
        "tgkill": lambda pid, number: call_by_number((234, 131)[COLUMN], pid, pid, number),
        "fcntl": lambda descriptor, command, value: call_by_number((72, 25)[COLUMN], descriptor, command, value),
        "ioctl": lambda descriptor, command: call_by_number((16, 29)[COLUMN], descriptor, command, b"x"),
        "thread": _thread,
        "status": lambda: Path("/proc/self/status").read_text(),
        "abort": os.abort,
        "nice": lambda: os.getpriority(os.PRIO_PROCESS, 0),
    }
    return Decoders(calls, lambda *_: [readable, *readable_code()])


def _errno_of(act: Callable[[], object]) -> int:
    try:
        act()
    except OSError as error:
        return error.errno or FAILED
    return 0


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _thread() -> list[int]:
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(threading.get_native_id()))
    thread.start()
    thread.join()
    return done
