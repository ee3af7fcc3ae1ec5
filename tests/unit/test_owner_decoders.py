"""Small files of one owner share a decoder; those of others, large ones and broken ones do not."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest

from cluster.contracts.errors import WorkerLost
from cluster.contracts.media import LocalVideo
from cluster.decoders import owner_decoders
from cluster.decoders.config import DecoderConfig
from cluster.decoders.owner_decoders import MAX_CALLS, MAX_IDLE, MAX_KEPT_BYTES, SMALL_BYTES, OwnerDecoders
from cluster.decoders.process import Answers, DecoderProcess, UnexpectedError
from cluster.decoders.sandbox import available
from tests.support.missing_part import skip_but_on_ci

ADA, BOB = UUID(int=1), UUID(int=2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "decoding"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def decoders(root: Path) -> Iterator[OwnerDecoders]:
    process = DecoderProcess(DecoderConfig("tests.support.odd_decoders:owners"), Answers())
    decoders = OwnerDecoders(process, root)
    yield decoders
    decoders.close()
    process.close()


def video(folder: Path, name: str, owner_id: UUID | None = ADA, text: bytes = b"film") -> LocalVideo:
    path = folder / name
    path.write_bytes(text)
    return LocalVideo(path, len(text), temporary=True, owner_id=owner_id)


def look(decoders: OwnerDecoders, file: LocalVideo, *others: Path) -> Any:
    (seen,) = decoders.parts("look", file, *others)
    return seen


def test_small_files_of_one_owner_share_a_decoder(decoders: OwnerDecoders, tmp_path: Path) -> None:
    pid, name, text, _ = look(decoders, video(tmp_path, "a.mp4", text=b"first"))
    assert (name, text) == ("a.mp4", b"first")
    assert look(decoders, video(tmp_path, "b.mov", text=b"second")) == (pid, "b.mov", b"second", [])


def test_files_of_two_owners_never_share_a_decoder(decoders: OwnerDecoders, tmp_path: Path) -> None:
    adas, bobs = (look(decoders, video(tmp_path, "a.mp4", owner))[0] for owner in (ADA, BOB))
    assert adas != bobs
    assert [look(decoders, video(tmp_path, "a.mp4", owner))[0] for owner in (ADA, BOB)] == [adas, bobs]


def test_a_shared_decoder_reads_no_file_of_another_owner(decoders: OwnerDecoders, tmp_path: Path) -> None:
    if not available().files:
        skip_but_on_ci("this kernel has no Landlock")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    bobs = video(tmp_path, "bobs.mp4", BOB)
    look(decoders, bobs)
    first = video(tmp_path, "a.mp4")
    look(decoders, first)
    *_, told = look(decoders, video(tmp_path, "b.mp4"), secret, bobs.path, first.path, tmp_path / "b.mp4")
    assert told == ["Permission denied"] * 4


def test_a_file_that_cannot_be_decoded_ends_its_decoder(decoders: OwnerDecoders, tmp_path: Path, root: Path) -> None:
    pid = look(decoders, video(tmp_path, "a.mp4"))[0]
    with pytest.raises(UnexpectedError, match=r"a\.mp4"):
        list(decoders.parts("fail", video(tmp_path, "a.mp4")))
    assert not list(root.glob("*/*")), "its folder goes with it"
    other = look(decoders, video(tmp_path, "a.mp4"))[0]
    assert other != pid
    with pytest.raises(WorkerLost):
        list(decoders.parts("die", video(tmp_path, "a.mp4")))
    assert look(decoders, video(tmp_path, "a.mp4"))[0] != other


def test_parts_that_are_not_taken_end_the_decoder(decoders: OwnerDecoders, tmp_path: Path) -> None:
    pid = look(decoders, video(tmp_path, "a.mp4"))[0]
    parts = decoders.parts("look", video(tmp_path, "a.mp4"))
    next(parts)
    parts.close()
    assert look(decoders, video(tmp_path, "a.mp4"))[0] != pid


def test_decoder_that_holds_much_memory_is_replaced(decoders: OwnerDecoders, tmp_path: Path) -> None:
    a_third = MAX_KEPT_BYTES // 3 // 2**20

    def hold() -> int:
        (pid,) = decoders.parts("hold", video(tmp_path, "a.mp4"), a_third)
        return int(pid)

    pids = [hold() for _ in range(5)]
    assert len(set(pids[:2])) == 1
    assert len(set(pids)) == 2
    assert MAX_KEPT_BYTES > 300 * 2**20, "three times of what a decoder has loaded"


@pytest.mark.parametrize(("owner_id", "size"), [(None, 4), (ADA, SMALL_BYTES + 1)], ids=["no owner", "a large file"])
def test_other_files_have_a_decoder_of_their_own(
    decoders: OwnerDecoders, tmp_path: Path, root: Path, owner_id: UUID | None, size: int
) -> None:
    file = video(tmp_path, "a.mp4", owner_id, bytes(size))
    assert look(decoders, file)[0] != look(decoders, file)[0]
    assert not list(root.iterdir())


def test_a_file_that_cannot_be_copied_is_read_in_place(decoders: OwnerDecoders, tmp_path: Path, root: Path) -> None:
    file = video(tmp_path, "a.mp4")
    pid = look(decoders, file)[0]
    (folder,) = root.glob("*/*")
    folder.rmdir()
    other, name, text, _ = look(decoders, file)
    assert (other != pid, name, text) == (True, "a.mp4", b"film")
    file.path.unlink()
    with pytest.raises(UnexpectedError, match="No such file"):
        look(decoders, file)
    shutil.rmtree(root)
    assert look(decoders, video(tmp_path, "b.mp4", BOB))[2] == b"film"


def test_a_decoder_that_died_while_idle_is_replaced(decoders: OwnerDecoders, tmp_path: Path) -> None:
    pid = look(decoders, video(tmp_path, "a.mp4"))[0]
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
    assert look(decoders, video(tmp_path, "a.mp4"))[0] != pid


def test_files_are_read_in_place_where_no_folder_can_be_locked(
    decoders: OwnerDecoders, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert look(decoders, video(tmp_path, "a.mp4"))[2] == b"film"
    assert not list(root.iterdir())


def test_a_decoder_is_replaced_after_many_calls(
    decoders: OwnerDecoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner_decoders, "MAX_CALLS", 2)
    pids = [look(decoders, video(tmp_path, "a.mp4"))[0] for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]
    assert MAX_CALLS > 2


def test_memory_of_a_call_serves_the_next(decoders: OwnerDecoders, tmp_path: Path) -> None:
    file = video(tmp_path, "a.mp4")
    (first,), (second,) = (list(decoders.parts("page_faults", file)) for _ in range(2))
    assert second < first / 10


def test_few_decoders_are_kept_and_nothing_of_the_files(decoders: OwnerDecoders, tmp_path: Path, root: Path) -> None:
    for number in range(MAX_IDLE + 3):
        look(decoders, video(tmp_path, "a.mp4", UUID(int=number)))
    (own,) = root.iterdir()
    assert len(list(own.iterdir())) == MAX_IDLE
    assert not [path for path in own.rglob("*") if path.is_file()]
    decoders.close()
    assert not list(own.iterdir())


def test_what_a_worker_left_that_was_killed_is_removed(decoders: OwnerDecoders, tmp_path: Path, root: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from cluster.decoders.owner_decoders import OwnerDecoders\n"
        "print(OwnerDecoders(None, Path(sys.argv[1]))._own_folder(), flush=True); sys.stdin.read()"
    )
    start = [sys.executable, "-c", code, str(root)]
    pipe = subprocess.PIPE
    with subprocess.Popen(start, stdin=pipe, stdout=pipe, env=os.environ | {"PYTHONPATH": str(Path.cwd())}) as other:
        assert other.stdout is not None
        folder = Path(other.stdout.readline().decode().strip())
        (folder / "left.mp4").touch()
        look(decoders, video(tmp_path, "a.mp4"))
        assert (folder / "left.mp4").exists()
        other.kill()
    again = OwnerDecoders(decoders._decoder, root)
    look(again, video(tmp_path, "a.mp4"))
    again.close()
    assert not folder.exists()
