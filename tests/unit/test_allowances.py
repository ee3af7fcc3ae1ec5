"""Rates and bursts of a caller's requests; the memory of callers is bounded."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from serve_app.allowances import Exhausted, Most, Rates, Shares, Turns


class Clock:
    """Seconds that pass when the test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def taken(rates: Rates, caller: object, tries: int) -> int:
    """Number of the requests that were within the caller's rate."""
    found = 0
    for _ in range(tries):
        try:
            rates.take(caller)
        except Exhausted:
            continue
        found += 1
    return found


def test_rates_allow_a_burst_then_the_rate() -> None:
    clock = Clock()
    rates = Rates(60, clock=clock)
    assert taken(rates, "a", 50) == 10
    with pytest.raises(Exhausted) as refused:
        rates.take("a")
    assert refused.value.retry_after_s == pytest.approx(1.0)
    clock.now += refused.value.retry_after_s
    assert taken(rates, "a", 50) == 1
    clock.now += 3600
    assert taken(rates, "a", 50) == 10


def test_shares_allow_a_burst_then_pause_in_proportion() -> None:
    clock = Clock()
    shares = Shares(0.5, 2.0, clock=clock)
    assert [shares.spend("a", 1.0) for _ in range(2)] == [0.0, 0.0]
    assert shares.spend("a", 1.0) == pytest.approx(2.0)
    assert shares.spend("b", 1.0) == 0.0
    clock.now += 2.0
    assert shares.spend("a", 0.5) == pytest.approx(1.0)
    clock.now += 3600
    assert shares.spend("a", 2.0) == 0.0


def test_shares_remember_so_many_callers() -> None:
    shares = Shares(0.5, 2.0, most_callers=2, clock=Clock())
    pauses = [shares.spend(caller, 3.0) for caller in ("a", "a", "b", "c", "a")]
    assert pauses == pytest.approx([2.0, 8.0, 2.0, 2.0, 2.0])


def test_rates_of_one_caller_leave_the_others_theirs() -> None:
    rates = Rates(60, clock=Clock())
    assert taken(rates, "a", 50) == 10
    assert taken(rates, "b", 50) == 10


def test_rates_below_one_burst_allow_one() -> None:
    assert taken(Rates(1, clock=Clock()), "a", 5) == 1


def test_rates_remember_so_many_callers_and_forget_the_idlest() -> None:
    rates = Rates(60, most_callers=100, clock=Clock())
    for number in range(1000):
        assert taken(rates, "busy", 1) == (number < 10)
        rates.take(number)
        if number < 10:
            assert len(rates) == number + 2
    assert len(rates) <= 100


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(10):
            await work()

    asyncio.run(within())


def test_turns_run_so_many_at_once_in_order() -> None:
    async def work() -> None:
        turns, order, most = Turns(Most(2, 10, 5.0)), [], 0
        running = 0

        async def one(number: int) -> None:
            nonlocal running, most
            async with turns.turn("a"):
                running += 1
                most = max(most, running)
                order.append(number)
                await asyncio.sleep(0.001)
                running -= 1

        await asyncio.gather(*map(one, range(12)))
        assert (order, most, len(turns)) == (list(range(12)), 2, 0)

    run(work)


def test_turns_refuse_a_request_when_the_line_is_full() -> None:
    async def work() -> None:
        turns = Turns(Most(1, 2, 5.0))
        await turns.begin("a")
        waiting = [asyncio.create_task(turns.begin("a")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Exhausted):
            await turns.begin("a")
        await turns.begin("b")
        for task in waiting:
            turns.end("a")
            await task
        turns.end("a")
        turns.end("b")
        assert len(turns) == 0

    run(work)


def test_turns_refuse_a_request_that_waits_too_long() -> None:
    async def work() -> None:
        turns = Turns(Most(1, 2, 0.01))
        await turns.begin("a")
        with pytest.raises(Exhausted):
            await turns.begin("a")
        turns.end("a")
        await turns.begin("a")
        turns.end("a")
        assert len(turns) == 0

    run(work)


def test_turns_pass_over_a_request_that_left_the_line() -> None:
    async def work() -> None:
        turns = Turns(Most(1, 3, 5.0))
        await turns.begin("a")
        left, given, stays = (asyncio.create_task(turns.begin("a")) for _ in range(3))
        await asyncio.sleep(0)
        left.cancel()
        turns.end("a")  # to the second, which leaves before it notices
        given.cancel()
        await asyncio.gather(left, given, return_exceptions=True)
        await stays
        turns.end("a")
        assert len(turns) == 0

    run(work)
