"""The process that decodes: what it cannot reach, and what becomes of a decoder that misbehaves."""

import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from cluster.contracts.errors import MalformedResult, StageTimeout, WorkerLost
from cluster.decoders import child
from cluster.decoders.config import PART, DecoderConfig
from cluster.decoders.process import Answers, DecoderProcess, UnexpectedError
from cluster.decoders.sandbox import available
from tests.support.decoder_copies import resident_bytes
from tests.support.missing_part import skip_but_on_ci
from tests.support.odd_decoders import Surprise

MakeDecoder = Callable[..., DecoderProcess]


@pytest.fixture(scope="module")
def make_decoder() -> Iterator[MakeDecoder]:
    with ExitStack() as stack:

        def make(*arguments: object, timeout_s: float = 20.0) -> DecoderProcess:
            decoder = DecoderProcess(
                DecoderConfig("tests.support.odd_decoders:load", arguments), Answers((), 2**20, timeout_s)
            )
            stack.callback(decoder.close)
            return decoder

        yield make


@pytest.fixture(scope="module")
def decoder(make_decoder: MakeDecoder) -> DecoderProcess:
    return make_decoder()


def test_decoder_answers_values_and_parts(decoder: DecoderProcess) -> None:
    assert decoder.call("echo", b"bytes") == b"bytes"
    assert list(decoder.parts("count", 3)) == [0, 1, 2]
    assert decoder.peak_memory_bytes > 2**20


def test_decoder_is_copied_from_one_thread(decoder: DecoderProcess) -> None:
    decoder.start()
    assert decoder.pid is not None
    process = psutil.Process(decoder.pid)
    assert child.__name__ in process.cmdline()
    assert process.num_threads() == 1


def test_decoder_has_no_secrets(monkeypatch: pytest.MonkeyPatch, make_decoder: MakeDecoder) -> None:
    for name in ("HEIMDEX_DATABASE_URL", "HEIMDEX_JWT_SECRET", "AWS_SECRET_ACCESS_KEY", "SOME_TOKEN"):
        monkeypatch.setenv(name, "a-secret-of-the-test")
    decoder = make_decoder(Path("/proc"))
    assert b"a-secret-of-the-test" not in decoder.call("environment")
    assert decoder.pid is not None
    assert b"a-secret-of-the-test" not in Path(f"/proc/{decoder.pid}/environ").read_bytes()


def test_decoder_gains_no_privileges(decoder: DecoderProcess) -> None:
    assert decoder.call("privileges") == 1


def test_decoder_opens_no_socket(decoder: DecoderProcess) -> None:
    if not available().sockets:
        skip_but_on_ci("this kernel has no seccomp")
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(UnexpectedError, match="not permitted"):
        decoder.call("connect", server.getsockname()[1])


def test_decoder_runs_no_program_and_kills_nothing(decoder: DecoderProcess) -> None:
    if not available().sockets:
        skip_but_on_ci("this kernel has no seccomp")
    with pytest.raises(UnexpectedError):
        decoder.call("run")
    with pytest.raises(UnexpectedError, match="not permitted"):
        decoder.call("kill", os.getpid())


def test_decoder_reads_its_own_file_alone(make_decoder: MakeDecoder, tmp_path: Path) -> None:
    if not available().files:
        skip_but_on_ci("this kernel has no Landlock")
    own, other = tmp_path / "own", tmp_path / "other"
    own.write_text("own")
    other.write_text("other")
    decoder = make_decoder(own)
    assert decoder.call("read", own) == b"own"
    for place in (other, Path("/etc/passwd"), Path(f"/proc/{os.getpid()}/environ")):
        with pytest.raises(UnexpectedError, match="denied"):
            decoder.call("read", place)
    with pytest.raises(UnexpectedError, match="denied"):
        decoder.call("write", tmp_path / "new")
    with pytest.raises(UnexpectedError, match="denied"):
        decoder.call("write", own)


def test_decoder_of_one_call_is_not_that_of_the_next(decoder: DecoderProcess) -> None:
    assert decoder.call("remember", "first") == ["first"]
    assert decoder.call("remember", "second") == ["second"]
    assert decoder.call("pid") != decoder.call("pid")


def test_decoder_that_hangs_is_killed_in_time(make_decoder: MakeDecoder) -> None:
    decoder = make_decoder(timeout_s=0.5)
    decoder.start()
    began_s = time.monotonic()
    with pytest.raises(StageTimeout):
        decoder.call("hang")
    assert time.monotonic() - began_s < 5
    assert decoder.pid is not None
    process = psutil.Process(decoder.pid)
    _wait_until(lambda: not process.children())


def test_decoder_that_computes_without_end_is_ended(decoder: DecoderProcess) -> None:
    with pytest.raises(WorkerLost):
        decoder.call("spin")


def test_decoder_gets_no_more_memory_than_its_bound(decoder: DecoderProcess) -> None:
    with pytest.raises(UnexpectedError) as caught:
        decoder.call("grow")
    assert type(caught.value).__name__ == "MemoryError"


def test_decoder_that_crashes_takes_nothing_along(decoder: DecoderProcess) -> None:
    with pytest.raises(WorkerLost):
        decoder.call("crash")
    assert decoder.call("echo", 1) == 1


def test_decoder_that_was_killed_is_started_again(decoder: DecoderProcess) -> None:
    decoder.start()
    assert decoder.pid is not None
    gone = psutil.Process(decoder.pid)
    gone.kill()
    _wait_until(lambda: not gone.is_running() or gone.status() == psutil.STATUS_ZOMBIE)
    assert decoder.call("echo", 1) == 1
    assert decoder.pid != gone.pid


def test_decoder_answer_cannot_name_what_is_called(decoder: DecoderProcess, tmp_path: Path) -> None:
    packed = pickle.dumps(Surprise(tmp_path / "surprise"))
    with pytest.raises(MalformedResult):
        decoder.call("answer", PART, len(packed), packed)
    assert not (tmp_path / "surprise").exists()


def test_decoder_answer_has_a_largest_size(decoder: DecoderProcess) -> None:
    with pytest.raises(MalformedResult):
        decoder.call("echo", bytes(2**21))


def test_decoder_parts_not_taken_end_their_process(decoder: DecoderProcess) -> None:
    parts = decoder.parts("linger")
    assert next(parts) == 0
    assert decoder.pid is not None
    process = psutil.Process(decoder.pid)
    assert process.children()
    parts.close()
    _wait_until(lambda: not process.children())


def test_decoder_serves_threads_at_once(decoder: DecoderProcess) -> None:
    answers: list[int] = []
    threads = [threading.Thread(target=lambda n=n: answers.append(decoder.call("echo", n))) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == list(range(16))


@pytest.mark.parametrize("ending", ["answered", "timed out", "given up", "died"])
def test_memory_of_a_copy_is_free_when_its_call_ends(make_decoder: MakeDecoder, ending: str) -> None:
    decoder = make_decoder(timeout_s=0.3)
    decoder.start()
    assert decoder.pid is not None
    process = psutil.Process(decoder.pid)
    for _ in range(5):
        if ending == "answered":
            assert decoder.call("fill", 200 * 2**20) == 200 * 2**20
        elif ending == "given up":
            parts = decoder.parts("linger", 200 * 2**20)
            assert next(parts) == 0
            parts.close()
        else:
            with pytest.raises(StageTimeout if ending == "timed out" else WorkerLost):
                decoder.call("hang" if ending == "timed out" else "crash", 200 * 2**20)
        assert resident_bytes(process.children()) == []


def _wait_until(is_so: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.01)
