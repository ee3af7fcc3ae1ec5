"""Utilisation of workers is that of the last five minutes, whatever they did before."""

from cluster.store.queue.worker_registry import RECENT_S, SAMPLE_S, RecentWork, WorkerState


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def state(busy_s: float, name: str = "media-1") -> WorkerState:
    return WorkerState(name, "media", "node", "cpu", None, "busy", busy_s, None)


def run(work: RecentWork, clock: Clock, seconds: int, busy_s: float, share: float) -> tuple[float, float, float]:
    """Announce every two seconds; returns the busy seconds at the end, and what is recent of them."""
    recent = (0.0, 0.0)
    for _ in range(seconds // 2):
        clock.now_s += 2
        busy_s += 2 * share
        recent = work.note([state(busy_s)])["media-1"]
    return (busy_s, *recent)


def test_recent_work_forgets_what_is_older_than_the_window() -> None:
    clock = Clock()
    work = RecentWork(clock)
    busy_s, *_ = run(work, clock, 3600, 0.0, 1.0)
    busy_s, recent_busy_s, recent_s = run(work, clock, 400, busy_s, 0.25)
    assert RECENT_S <= recent_s <= RECENT_S + SAMPLE_S
    assert recent_busy_s == 0.25 * recent_s


def test_recent_work_of_a_young_worker_is_over_its_life() -> None:
    clock = Clock()
    work = RecentWork(clock)
    assert work.note([state(7.0)]) == {"media-1": (0.0, 0.0)}
    _, recent_busy_s, recent_s = run(work, clock, 60, 7.0, 0.5)
    assert (recent_busy_s, recent_s) == (30.0, 60.0)


def test_recent_work_begins_again_with_a_new_process() -> None:
    clock = Clock()
    work = RecentWork(clock)
    run(work, clock, 100, 0.0, 1.0)
    clock.now_s += 2
    assert work.note([state(0.0)]) == {"media-1": (0.0, 0.0)}
    assert run(work, clock, 10, 0.0, 1.0)[1:] == (10.0, 10.0)


def test_recent_work_drops_workers_that_are_gone() -> None:
    clock = Clock()
    work = RecentWork(clock)
    work.note([state(1.0), state(2.0, "media-2")])
    clock.now_s += 20
    assert set(work.note([state(1.0)])) == {"media-1"}
    clock.now_s += 20
    assert work.note([state(1.0), state(2.0, "media-2")])["media-2"] == (0.0, 0.0)
