"""Pools of workers on a real Ray: batches, deadlines, the dead and their replacements, and what every answer says."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray

from actors.workers.pool import WorkerPool
from actors.workers.turns import BatchLimit
from actors.workers.worker import SMALL_BYTES, LoadedWorker, Parts, Share, StageReply, remote_stage_actor
from cluster.contracts.errors import (
    ConfigurationError,
    DeviceFailure,
    InvalidVideo,
    NodeLost,
    StageTimeout,
    TransientFailure,
    WorkerLost,
)
from cluster.contracts.stages import Blame, WorkerKind
from tests.support.small_ray import small_ray

LONG_S = 60.0
LEAST_PRIORITY = 19
"""Linux has no niceness above: workers of a Ray that was itself started with a low priority are there already."""
MOST = 10.0
"""Size that the items of a call may have together."""
SAMPLES = SMALL_BYTES
"""Of a part of two bytes each, which is too large to travel along."""
Scenario = Callable[[WorkerPool], Awaitable[None]]


@pytest.fixture(scope="module", autouse=True)
def ray_of_this_module() -> Iterator[None]:
    with small_ray(__name__):
        yield


# What the toy workers load


def toys() -> LoadedWorker:
    loaded = ["toys"]
    return LoadedWorker(
        {
            "echo": lambda value: value,
            "hold": _hold,
            "sleep": _sleep,
            "niceness": lambda: os.nice(0),
            "fail": _fail,
            "die": lambda: os._exit(1),
            "arrays": _arrays,
            "total": lambda parts: float(sum(part.sum() for part in parts)),
            "unreadable": _Unreadable,
            "double": lambda batch: [_double(*item) for item in batch],
            "too_few": lambda batch: batch[1:],
            "weigh": _weigh,
            "stall": _stall,
            "load": lambda name: loaded.append(name),
            "break_device": lambda _: _fail("DeviceFailure", "the GPU is gone"),
        },
        batched=frozenset({"double", "too_few", "weigh", "stall", "break_device"}),
        model=lambda: loaded[-1],
        niceness=2,
    )


def plain_toys() -> LoadedWorker:
    return replace(toys(), niceness=0)


def _hold(begun: Path, until: Path) -> str:
    begun.touch()
    while not until.exists():
        time.sleep(0.005)
    return "held"


def _sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def _fail(kind: str, text: str) -> None:
    raise {
        "InvalidVideo": InvalidVideo,
        "TransientFailure": TransientFailure,
        "DeviceFailure": DeviceFailure,
        "ValueError": ValueError,
    }[kind](text)


def _arrays(count: int, pause_s: float, broken_at: int | None = None) -> Iterator[Any]:
    for number in range(count):
        time.sleep(pause_s)
        if number == broken_at:
            raise InvalidVideo("the file ends here")
        yield np.full(SAMPLES, number, np.int16)


def _stall(batch: list[tuple[int]]) -> None:
    time.sleep(3600)


def _weigh(batch: list[tuple[float]]) -> list[Share]:
    """Items weigh what they say; those below nothing are at fault."""
    time.sleep(0.4)
    return [Share(weight if weight >= 0 else InvalidVideo("too light"), abs(weight)) for (weight,) in batch]


def _double(value: int) -> int:
    if value < 0:
        raise InvalidVideo(f"{value} cannot be doubled")
    return 2 * value


class _Unreadable:
    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse, ()


def _refuse() -> None:
    raise ValueError("nobody can read this")


def misconfigured() -> LoadedWorker:
    raise ConfigurationError("HEIMDEX_WHISPER_MODEL: no such model")


def broken() -> LoadedWorker:
    raise OSError("the weights are damaged\nsecond line")


def endless() -> LoadedWorker:
    time.sleep(3600)
    return toys()


# Running a scenario


def spawner(load: Callable[[], LoadedWorker], held: float = 1.0) -> Callable[[str], Any]:
    remote = remote_stage_actor(cpus=0)
    return lambda name: remote.remote(name, load, held)


def run(
    scenario: Scenario,
    *,
    size: int = 1,
    batches: dict[str, int] | None = None,
    spread: bool = False,
    deferred: Collection[str] = (),
    held: float = 1.0,
    load: Callable[[], LoadedWorker] = toys,
) -> None:
    """Run a scenario on a ready pool of toy workers; nothing may be left unanswered or unhandled."""

    async def whole() -> None:
        unhandled: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        limits = {call: BatchLimit(count, MOST, spread) for call, count in (batches or {}).items()}
        pool = WorkerPool(WorkerKind.MEDIA, spawner(load, held), size, limits, deferred)
        pool.start()
        try:
            await pool.ready()
            await asyncio.wait_for(scenario(pool), LONG_S)
        finally:
            pool.close()
            await asyncio.sleep(0)
        assert not unhandled, unhandled

    asyncio.run(whole())


def start(pool: WorkerPool, call: str, *arguments: Any, deadline_s: float = LONG_S) -> "asyncio.Task[StageReply]":
    return asyncio.create_task(pool.run(call, arguments, deadline_s=deadline_s))


async def hold(pool: WorkerPool, folder: Path) -> "tuple[asyncio.Task[StageReply], Path]":
    """A call that a worker runs now, until the path is touched."""
    begun, until = folder / "begun", folder / "until"
    held = start(pool, "hold", begun, until)
    await until_true(begun.exists)
    return held, until


async def until_true(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def pids(pool: WorkerPool) -> list[int]:
    return [view.info.pid for view in pool.view() if view.info is not None]


def failure(reply: StageReply) -> tuple[str, str, Blame]:
    found = reply.report.failure
    assert found is not None
    return found.error_type, found.message, found.blame


# Answers


def test_every_item_gets_its_own_answer() -> None:
    async def scenario(pool: WorkerPool) -> None:
        replies = await asyncio.gather(*(pool.run("echo", (n,), deadline_s=LONG_S) for n in range(20)))
        assert [reply.value for reply in replies] == list(range(20))
        names = {view.name for view in pool.view()}
        assert {reply.report.worker for reply in replies} == names == {"media-1", "media-2"}
        assert {reply.node_id for reply in replies} == {ray.nodes()[0]["NodeID"]}
        assert all(reply.peak_memory_bytes > 10 * 1024**2 for reply in replies)
        assert pool.waiting == 0

    run(scenario, size=2)


def test_a_worker_stands_back_as_far_as_its_kind_says() -> None:
    found: list[int] = []

    async def scenario(pool: WorkerPool) -> None:
        found.append((await pool.run("niceness", (), deadline_s=LONG_S)).value)

    run(scenario, load=plain_toys)
    run(scenario)
    assert found[1] == min(found[0] + 2, LEAST_PRIORITY)


def test_items_that_wait_share_a_call_and_its_time(tmp_path: Path) -> None:
    async def scenario(pool: WorkerPool) -> None:
        held, until = await hold(pool, tmp_path)
        doubled = [start(pool, "double", n) for n in range(10)]
        await asyncio.sleep(0)
        assert pool.waiting == 10
        until.touch()
        replies = await asyncio.gather(*doubled)
        assert [reply.value for reply in replies] == [2 * n for n in range(10)]
        assert [reply.report.batch_size for reply in replies] == [4, 4, 4, 4, 4, 4, 4, 4, 2, 2]
        assert len({reply.report.run_s for reply in replies[:4]}) == 1
        assert (await held).value == "held"

    run(scenario, batches={"double": 4})


def test_other_calls_never_share(tmp_path: Path) -> None:
    async def scenario(pool: WorkerPool) -> None:
        _, until = await hold(pool, tmp_path)
        mixed = [start(pool, call, n) for n in range(4) for call in ("double", "echo")]
        await asyncio.sleep(0)
        until.touch()
        replies = await asyncio.gather(*mixed)
        assert [reply.value for reply in replies] == [0, 0, 2, 1, 4, 2, 6, 3]
        assert {reply.report.batch_size for reply in replies[1::2]} == {1}

    run(scenario, batches={"double": 4})


def test_the_item_at_fault_in_a_batch_is_found_alone(tmp_path: Path) -> None:
    async def scenario(pool: WorkerPool) -> None:
        _, until = await hold(pool, tmp_path)
        doubled = [start(pool, "double", n) for n in (9, 1, -2, 3)]
        await asyncio.sleep(0)
        until.touch()
        replies = await asyncio.gather(*doubled)
        assert [reply.value for reply in replies] == [18, 2, None, 6]
        assert failure(replies[2]) == ("InvalidVideo", "-2 cannot be doubled", Blame.VIDEO)
        assert [reply.report.failure is None for reply in replies] == [True, True, False, True]
        assert {reply.report.batch_size for reply in replies} == {1}

    run(scenario, batches={"double": 4})


def test_a_failure_is_an_answer_in_one_sentence() -> None:
    async def scenario(pool: WorkerPool) -> None:
        expected = {
            ("InvalidVideo", "no pictures"): ("InvalidVideo", "no pictures", Blame.VIDEO),
            ("TransientFailure", "the disk is full"): ("TransientFailure", "the disk is full", Blame.ERROR),
            ("ValueError", "first\nsecond"): ("ValueError", "unexpected ValueError: first", Blame.ERROR),
            ("ValueError", ""): ("ValueError", "unexpected ValueError: no further explanation", Blame.ERROR),
            ("ValueError", "a\0b \udce4"): ("ValueError", "unexpected ValueError: a b ?", Blame.ERROR),
        }
        for arguments, wanted in expected.items():
            reply = await pool.run("fail", arguments, deadline_s=LONG_S)
            assert (failure(reply), reply.value) == (wanted, None)
        assert failure(await pool.run("no_such_call", (), deadline_s=LONG_S))[0] == "KeyError"
        assert [view.name for view in pool.view()] == ["media-1"]

    run(scenario)


def test_a_run_is_measured_to_its_end_parts_and_all() -> None:
    async def scenario(pool: WorkerPool) -> None:
        reply = await pool.run("arrays", (3, 0.1), deadline_s=LONG_S)
        assert 0.3 <= reply.report.run_s < 5
        assert reply.report.resource_s == pytest.approx(reply.report.run_s * 0.25)
        assert isinstance(reply.value, Parts)
        assert len(reply.value) == 3
        for _ in range(2):  # parts can be read again
            assert [int(part[0]) for part in await asyncio.to_thread(list, reply.value)] == [0, 1, 2]
        total = await pool.run("total", (reply.value,), deadline_s=LONG_S)
        assert total.value == 3.0 * SAMPLES

    run(scenario, held=0.25)


def test_a_result_that_breaks_off_is_a_failure_with_its_time() -> None:
    async def scenario(pool: WorkerPool) -> None:
        reply = await pool.run("arrays", (3, 0.1, 1), deadline_s=LONG_S)
        assert failure(reply) == ("InvalidVideo", "the file ends here", Blame.VIDEO)
        assert reply.report.run_s >= 0.2

    run(scenario)


@pytest.mark.parametrize("count", [1, 3])
def test_a_batch_that_answers_too_little_fails_whole(tmp_path: Path, count: int) -> None:
    async def scenario(pool: WorkerPool) -> None:
        _, until = await hold(pool, tmp_path)
        asked = [start(pool, "too_few", n) for n in range(count)]
        await asyncio.sleep(0)
        until.touch()
        for reply in await asyncio.gather(*asked):
            assert failure(reply) == ("RuntimeError", "unexpected RuntimeError: 0 results for 1 items", Blame.ERROR)

    run(scenario, batches={"too_few": 4})


def test_an_answer_that_cannot_be_read_is_still_an_answer() -> None:
    async def scenario(pool: WorkerPool) -> None:
        with pytest.raises(WorkerLost, match="nobody can read this"):
            await pool.run("unreadable", (), deadline_s=LONG_S)
        assert (await pool.run("echo", (1,), deadline_s=LONG_S)).value == 1

    run(scenario)


# Deaths


def test_killed_worker_fails_what_it_ran_and_nothing_waiting(tmp_path: Path) -> None:
    async def scenario(pool: WorkerPool) -> None:
        held, _ = await hold(pool, tmp_path)
        behind, waiting = start(pool, "echo", "behind"), start(pool, "echo", "waiting")
        await asyncio.sleep(0)
        os.kill(pids(pool)[0], signal.SIGKILL)
        with pytest.raises(WorkerLost, match="worker media-1 died"):
            await held
        replies = await asyncio.gather(behind, waiting)
        assert [reply.value for reply in replies] == ["behind", "waiting"]
        assert {reply.report.worker for reply in replies} == {"media-2"}
        assert [view.name for view in pool.view()] == ["media-2"]

    run(scenario)


def test_the_death_of_an_idle_worker_is_charged_to_nobody() -> None:
    async def scenario(pool: WorkerPool) -> None:
        os.kill(pids(pool)[0], signal.SIGKILL)
        await until_true(lambda: [view.name for view in pool.view()] == ["media-2"])
        reply = await pool.run("echo", (1,), deadline_s=LONG_S)
        assert (reply.value, reply.report.worker) == (1, "media-2")

    run(scenario)


def test_a_call_that_ends_its_process_fails_alone() -> None:
    async def scenario(pool: WorkerPool) -> None:
        mixed = [start(pool, "die"), start(pool, "echo", 1), start(pool, "echo", 2)]
        answers = await asyncio.gather(*mixed, return_exceptions=True)
        assert isinstance(answers[0], WorkerLost)
        assert [answer.value for answer in answers if isinstance(answer, StageReply)] == [1, 2]
        assert len(pool.view()) == 1

    run(scenario)


def test_a_call_past_its_deadline_is_ended_with_its_worker() -> None:
    async def scenario(pool: WorkerPool) -> None:
        (pid,) = pids(pool)
        began_s = time.monotonic()
        slow = start(pool, "sleep", 3600.0, deadline_s=0.5)
        behind = start(pool, "echo", "behind")
        with pytest.raises(StageTimeout, match="still running after"):
            await slow
        assert 0.5 <= time.monotonic() - began_s < 20
        assert (await behind).value == "behind"
        await until_true(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)

    run(scenario)


def test_deadline_counts_from_the_start_of_the_call() -> None:
    async def scenario(pool: WorkerPool) -> None:
        slow = start(pool, "sleep", 1.5)
        behind = start(pool, "sleep", 0.1, deadline_s=1.0)
        assert (await slow).value == 1.5
        assert (await behind).value == 0.1

    run(scenario)


def test_shared_call_adds_to_deadline_and_a_hang_is_waited_once() -> None:
    async def scenario(pool: WorkerPool) -> None:
        began_s = time.monotonic()
        slow = [asyncio.create_task(pool.run("stall", (n,), deadline_s=0.5, added_s=0.2)) for n in range(4)]
        for answer in await asyncio.gather(*slow, return_exceptions=True):
            assert isinstance(answer, StageTimeout)
        assert 0.5 + 0.2 <= time.monotonic() - began_s < 20

    run(scenario, batches={"stall": 4})


def test_parts_whose_maker_died_are_not_their_readers_fault() -> None:
    async def scenario(pool: WorkerPool) -> None:
        parts = (await pool.run("arrays", (2, 0.0), deadline_s=LONG_S)).value
        os.kill(pids(pool)[0], signal.SIGKILL)
        with pytest.raises(WorkerLost):
            await pool.run("echo", (1,), deadline_s=LONG_S)
        reply = await pool.run("total", (parts,), deadline_s=LONG_S)
        assert (failure(reply)[0], failure(reply)[2]) == ("NodeLost", Blame.INTERRUPTION)

    run(scenario)


def test_a_device_error_ends_the_process_and_costs_nobody_else(tmp_path: Path) -> None:
    async def scenario(pool: WorkerPool) -> None:
        (pid,) = pids(pool)
        _, until = await hold(pool, tmp_path)
        met = [start(pool, "break_device", n) for n in range(3)]
        others = [start(pool, "sleep", 0.6) for _ in range(3)]
        await asyncio.sleep(0)
        until.touch()
        for reply in await asyncio.gather(*met):
            assert failure(reply) == ("DeviceFailure", "the GPU is gone", Blame.CRASH)
        replies = await asyncio.gather(*others)
        assert [reply.report.failure for reply in replies] == [None] * 3
        assert pid not in pids(pool)
        await until_true(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)

    run(scenario, batches={"break_device": 4})


def test_what_runs_alone_shares_its_worker_with_nobody(tmp_path: Path) -> None:
    async def scenario(pool: WorkerPool) -> None:
        _, until = await hold(pool, tmp_path)
        doubled = [
            asyncio.create_task(pool.run("double", (n,), deadline_s=LONG_S, alone=n in (0, 2))) for n in range(5)
        ]
        await asyncio.sleep(0)
        until.touch()
        replies = await asyncio.gather(*doubled)
        assert [reply.value for reply in replies] == [0, 2, 4, 6, 8]
        assert [reply.report.batch_size for reply in replies] == [1, 3, 1, 3, 3]

    run(scenario, batches={"double": 4})


def test_shared_call_is_charged_by_weight_and_isolates_faults(tmp_path: Path) -> None:
    async def scenario(pool: WorkerPool) -> None:
        _, until = await hold(pool, tmp_path)
        weighed = [start(pool, "weigh", weight) for weight in (1.0, -2.0, 5.0)]
        await asyncio.sleep(0)
        until.touch()
        light, faulty, heavy = await asyncio.gather(*weighed)
        assert (light.value, faulty.value, heavy.value) == (1.0, None, 5.0)
        assert failure(faulty) == ("InvalidVideo", "too light", Blame.VIDEO)
        assert [reply.report.batch_size for reply in (light, faulty, heavy)] == [3, 3, 3]
        whole_s = sum(reply.report.run_s for reply in (light, faulty, heavy))
        assert 0.4 <= whole_s < 2.0
        for reply, weight in ((light, 1.0), (faulty, 2.0), (heavy, 5.0)):
            assert reply.report.run_s == pytest.approx(whole_s * weight / 8.0)

    run(scenario, batches={"weigh": 4})


def test_items_share_a_call_up_to_a_size_large_ones_run_alone(tmp_path: Path) -> None:
    async def scenario(pool: WorkerPool) -> None:
        _, until = await hold(pool, tmp_path)
        sizes = (4.0, 7.0, 6.0, 100.0, 3.0)
        doubled = [
            asyncio.create_task(pool.run("double", (n,), deadline_s=LONG_S, size=size)) for n, size in enumerate(sizes)
        ]
        await asyncio.sleep(0)
        until.touch()
        replies = await asyncio.gather(*doubled)
        assert [reply.value for reply in replies] == [0, 2, 4, 6, 8]
        assert [reply.report.batch_size for reply in replies] == [2, 2, 2, 1, 2]  # 4 + 6, 7 + 3, 100

    run(scenario, batches={"double": 4})


def test_what_only_saves_asking_is_left_to_the_other_workers_too(tmp_path: Path) -> None:
    async def scenario(pool: WorkerPool) -> None:
        folders = [tmp_path / "one", tmp_path / "other"]
        for folder in folders:
            folder.mkdir()
        untils = [(await hold(pool, folder))[1] for folder in folders]
        doubled = [start(pool, "double", n) for n in range(8)]
        await asyncio.sleep(0)
        for until in untils:
            until.touch()
        sizes = [reply.report.batch_size for reply in await asyncio.gather(*doubled)]
        assert max(sizes) == 4  # half of them, although all may share a call

    run(scenario, size=2, batches={"double": 8}, spread=True)


def test_what_is_deferred_waits_for_all_that_is_not(tmp_path: Path) -> None:
    async def scenario(pool: WorkerPool) -> None:
        _, until = await hold(pool, tmp_path)
        answered: list[str] = []

        async def ask(call: str, *arguments: Any) -> None:
            await pool.run(call, arguments, deadline_s=LONG_S)
            answered.append(call)

        asked = [asyncio.create_task(ask("sleep", 0.0)), *(asyncio.create_task(ask("echo", n)) for n in range(3))]
        await asyncio.sleep(0)
        until.touch()
        await asyncio.gather(*asked)
        assert answered == ["echo", "echo", "echo", "sleep"]

    run(scenario, deferred={"sleep"})


def test_a_worker_that_works_for_nobody_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.workers.pool.ABANDONED_S", 0.2)

    async def scenario(pool: WorkerPool) -> None:
        (pid,) = pids(pool)
        slow = start(pool, "sleep", 3600.0)
        await until_true(lambda: pool.view()[0].busy)
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        assert (await pool.run("echo", (1,), deadline_s=LONG_S)).value == 1
        assert [view.name for view in pool.view()] == ["media-2"]
        await until_true(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)

    run(scenario)


# Nodes


def test_an_item_goes_to_the_node_that_it_names() -> None:
    async def scenario(pool: WorkerPool) -> None:
        node_id = ray.nodes()[0]["NodeID"]
        reply = await pool.run("echo", (1,), deadline_s=LONG_S, node_id=node_id)
        assert reply.node_id == node_id
        with pytest.raises(NodeLost, match="no media worker is left on the node"):
            await pool.run("echo", (1,), deadline_s=LONG_S, node_id="f" * 56)

    run(scenario)


def test_item_of_a_dead_node_is_answered_without_a_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("actors.workers.pool.STRANDED_S", 0.3)

    async def scenario() -> None:
        pool = WorkerPool(WorkerKind.MEDIA, spawner(endless), 1)
        pool.start()
        try:
            with pytest.raises(NodeLost, match="no media worker is left on the node"):
                await asyncio.wait_for(pool.run("echo", (1,), deadline_s=LONG_S, node_id="f" * 56), 20)
        finally:
            pool.close()

    asyncio.run(scenario())


# Starting and stopping


@pytest.mark.parametrize(
    ("load", "sentence"),
    [
        (misconfigured, "HEIMDEX_WHISPER_MODEL: no such model"),
        (broken, "unexpected OSError: the weights are damaged"),
    ],
)
def test_why_a_worker_cannot_load_reaches_whoever_starts_it(load: Callable[[], LoadedWorker], sentence: str) -> None:
    async def scenario() -> None:
        pool = WorkerPool(WorkerKind.EMBEDDER, spawner(load), 2)
        pool.start()
        try:
            with pytest.raises(ConfigurationError) as raised:
                await asyncio.wait_for(pool.ready(), LONG_S)
        finally:
            pool.close()
        assert str(raised.value) == sentence

    asyncio.run(scenario())


def test_closing_answers_everything(tmp_path: Path) -> None:
    async def scenario(pool: WorkerPool) -> None:
        held, _ = await hold(pool, tmp_path)
        rest = [start(pool, "echo", n) for n in range(3)]
        await asyncio.sleep(0)
        pool.close()
        answers = await asyncio.gather(held, *rest, return_exceptions=True)
        assert [type(answer) for answer in answers] == [NodeLost] * 4
        with pytest.raises(NodeLost, match="stopping"):
            await pool.run("echo", (1,), deadline_s=LONG_S)

    run(scenario)


def test_pool_cancelled_item_leaves_the_queue(tmp_path: Path) -> None:
    async def scenario(pool: WorkerPool) -> None:
        held, until = await hold(pool, tmp_path)
        behind, waiting = start(pool, "echo", 1), start(pool, "echo", 2)
        await asyncio.sleep(0)
        for task in (held, behind, waiting):
            task.cancel()
        await asyncio.gather(held, behind, waiting, return_exceptions=True)
        assert pool.waiting == 0
        until.touch()
        assert (await pool.run("echo", (3,), deadline_s=LONG_S)).value == 3
        assert [view.name for view in pool.view()] == ["media-1"]

    run(scenario)


def test_worker_is_listed_with_the_model_it_has_loaded() -> None:
    async def scenario(pool: WorkerPool) -> None:
        await pool.run("load", ("other toys",), deadline_s=LONG_S)
        (seen,) = pool.view()
        assert seen.info is not None
        assert (seen.info.worker, seen.info.model) == ("media-1", "other toys")

    run(scenario)


def test_a_worker_is_seen_busy_while_it_works(tmp_path: Path) -> None:
    async def scenario(pool: WorkerPool) -> None:
        (idle,) = pool.view()
        assert (idle.busy, idle.busy_s) == (False, 0.0)
        assert idle.info is not None
        assert (idle.info.worker, idle.info.model, idle.info.device) == ("media-1", "toys", "cpu")
        held, until = await hold(pool, tmp_path)
        await asyncio.sleep(0.1)
        (busy,) = pool.view()
        assert busy.busy
        assert busy.busy_s >= 0.1
        until.touch()
        reply = await held
        (idle,) = pool.view()
        assert not idle.busy
        assert idle.busy_s >= reply.report.run_s
        assert idle.peak_memory_bytes == reply.peak_memory_bytes
        assert pool.view()[0].busy_s == idle.busy_s

    run(scenario)
