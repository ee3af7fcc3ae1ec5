"""Progress of submitted videos, read from Postgres: live on a terminal, line by line elsewhere.

Watching changes nothing: when it stops, the videos stay on their way.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from uuid import UUID

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from cluster.cli.terminal import cell, in_markup
from cluster.contracts.durations import duration_text
from cluster.contracts.errors import DatabaseUnavailable
from cluster.contracts.stages import REQUIRES
from cluster.contracts.uris import distinct_names
from cluster.contracts.videos import VideoStatus
from cluster.security.visible import visible
from cluster.store.postgres.connections import Pool
from cluster.store.videos.progress import Standing, read_standings

POLL_S = 0.4
READS_APART, LONGEST_PAUSE_S = 4.0, 10.0
"""Between two looks passes so many times what the first took, up to the longest pause: watching many is cheap too."""
SHOWN_IN_FLIGHT = 10
SHOWN_WAITING = 3
SUMMARY_EVERY_S = 15.0


def _nothing() -> None:
    pass


def watch(pool: Pool, ids: Sequence[UUID], console: Console, meanwhile: Callable[[], None] = _nothing) -> None:
    """Show progress on ``console`` until nothing more happens to any video; ``meanwhile`` is called now and then."""
    if console.is_terminal:
        _watch_live(pool, ids, console, meanwhile)
    else:
        watch_lines(pool, ids, lambda line: console.print(cell(line), soft_wrap=True), meanwhile)


def watch_lines(
    pool: Pool, ids: Sequence[UUID], say: Callable[[str], None], meanwhile: Callable[[], None] = _nothing
) -> None:
    """Say a line for every video that is settled, and every now and then where the others are."""
    started_s = said_s = time.monotonic()
    settled: set[UUID] = set()
    reasons: set[tuple[UUID, str]] = set()
    for standings in _standings(pool, ids, meanwhile):
        now_s = time.monotonic()
        for waiting in _waiting_for_a_reason(standings):
            if (waiting.id, waiting.error_message) not in reasons:
                reasons.add((waiting.id, waiting.error_message or ""))
                said_s = now_s
                say(f"[{len(settled)}/{len(ids)}] {_reason(waiting)}")
        for standing in standings:
            if standing.settled and standing.id not in settled:
                settled.add(standing.id)
                said_s = now_s
                say(f"[{len(settled)}/{len(ids)}] {_verdict(standing)}")
        if now_s - said_s > SUMMARY_EVERY_S:
            said_s = now_s
            say(f"[{len(settled)}/{len(ids)}] {_where(standings)}{_left_text(standings, now_s - started_s)}")


def estimate_left_s(standings: Sequence[Standing], elapsed_s: float) -> float | None:
    """Seconds until all are settled, from the pace so far; None until the first one is.

    Work is counted in seconds of video (a video of unknown duration counts as the mean of the known ones); one on
    its way counts as done by the share of its stages that are.
    """
    if not any(standing.settled for standing in standings):
        return None
    known = [standing.duration_s for standing in standings if standing.duration_s]
    typical_s = sum(known) / len(known) if known else 1.0
    total = done = 0.0
    for standing in standings:
        work_s = standing.duration_s or typical_s
        total += work_s
        done += work_s if standing.settled else work_s * standing.done_stages / len(REQUIRES)
    return elapsed_s * (total - done) / done if done else None


def _standings(pool: Pool, ids: Sequence[UUID], meanwhile: Callable[[], None]) -> Iterator[list[Standing]]:
    """The standings, read repeatedly, each video under a name that distinguishes it from the others.

    A settled video is read once more when all are: one that is retried meanwhile is waited for.
    """
    standings: dict[UUID, Standing] = {}
    names: dict[UUID, str] = {}
    unsettled = list(ids)
    while True:
        meanwhile()
        began_s = time.monotonic()
        try:
            found = read_standings(pool, unsettled)
        except DatabaseUnavailable:
            time.sleep(POLL_S)
            continue
        everything = len(unsettled) == len(ids)
        if everything:
            standings = {standing.id: standing for standing in found}
            given = distinct_names((standing.name, standing.place) for standing in found)
            names = dict(zip(standings, given, strict=True))
        for gone in set(unsettled) - {standing.id for standing in found}:
            standings.pop(gone, None)
        standings.update({standing.id: replace(standing, filename=names[standing.id]) for standing in found})
        yield list(standings.values())
        unsettled = [video_id for video_id, standing in standings.items() if not standing.settled]
        if not unsettled:
            if everything:
                return
            unsettled = list(ids)
            continue
        time.sleep(min(max(POLL_S, READS_APART * (time.monotonic() - began_s)), LONGEST_PAUSE_S))


def _watch_live(pool: Pool, ids: Sequence[UUID], console: Console, meanwhile: Callable[[], None]) -> None:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=console,
    )
    task = bar.add_task("videos", total=len(ids), left="")
    started_s = time.monotonic()
    settled: set[UUID] = set()
    with Live(bar, console=console, refresh_per_second=4, transient=True) as live:
        for standings in _standings(pool, ids, meanwhile):
            for standing in standings:
                if standing.settled and standing.id not in settled:
                    settled.add(standing.id)
                    live.console.print(cell(_verdict(standing)))
            left = _left_text(standings, time.monotonic() - started_s)
            bar.update(task, completed=len(settled), left=left.removeprefix(", "))
            live.update(_view(bar, standings))


def _view(bar: Progress, standings: Sequence[Standing]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    moving = [standing for standing in standings if standing.status == VideoStatus.PROCESSING]
    for standing in moving[:SHOWN_IN_FLIGHT]:
        steps = "━" * standing.done_stages + "─" * (len(REQUIRES) - standing.done_stages)
        table.add_row(
            f"  {in_markup(standing.name)}", f"[cyan]{steps}[/]", in_markup(_stages(standing)), _times(standing)
        )
    if len(moving) > SHOWN_IN_FLIGHT:
        table.add_row(f"  and {len(moving) - SHOWN_IN_FLIGHT} more", "", "", "")
    queues_ms = [standing.queue_ms or 0.0 for standing in standings if standing.status == VideoStatus.PENDING]
    if queues_ms:
        longest = duration_text(max(queues_ms) / 1000)
        table.add_row(f"  {len(queues_ms)} waiting", "", "", f"in the queue for up to {longest}")
    waiting = _waiting_for_a_reason(standings)[:SHOWN_WAITING]
    return Group(table, *(Text(visible(f"  {_reason(each)}"), style="yellow") for each in waiting), bar)


def _waiting_for_a_reason(standings: Sequence[Standing]) -> list[Standing]:
    """Those that wait because an attempt ended early, and are tried again."""
    return [each for each in standings if each.status == VideoStatus.PENDING and each.error_message]


def _reason(waiting: Standing) -> str:
    return f"WAITS   {waiting.name}: {waiting.error_message}"


def _stages(standing: Standing) -> str:
    return " + ".join(standing.stages) or standing.processing_stage or ""


def _times(standing: Standing) -> str:
    """Queue, and of the stages that ended wait and run, as far as they are known."""
    known = (("queue", standing.queue_ms), ("wait", standing.wait_ms), ("run", standing.run_ms))
    return ", ".join(f"{name} {ms / 1000:.1f} s" for name, ms in known if ms is not None)


def _verdict(standing: Standing) -> str:
    if standing.status == VideoStatus.READY:
        return f"READY   {standing.name}"
    if standing.status == VideoStatus.CANCELLED:
        return f"CANCELLED  {standing.name}"
    return f"FAILED  {standing.name}: {standing.processing_stage}: {standing.error_message}"


def _where(standings: Sequence[Standing]) -> str:
    moving = [f"{s.name} ({_stages(s)})" for s in standings if s.status == VideoStatus.PROCESSING]
    waiting = sum(1 for standing in standings if standing.status == VideoStatus.PENDING)
    shown = ", ".join(moving[:4]) + (f" and {len(moving) - 4} more" if len(moving) > 4 else "")
    return f"on the way: {shown or 'none'}; waiting: {waiting}"


def _left_text(standings: Sequence[Standing], elapsed_s: float) -> str:
    left_s = estimate_left_s(standings, elapsed_s)
    return f", about {duration_text(left_s)} left" if left_s else ""
