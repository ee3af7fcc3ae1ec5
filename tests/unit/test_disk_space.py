"""One owner's downloads leave room on the disk for the others', whatever is announced and however much comes."""

import shutil
from pathlib import Path

import pytest

from cluster.contracts.errors import NoRoom
from cluster.files.disk_space import KEPT_BYTES, DiskSpace, Reservation

GIB = 2**30


class Disk:
    """A disk of so many free bytes beside what is reserved and written through it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: int, total: int = 1000 * GIB) -> None:
        self.free = free
        usage = lambda _: shutil._ntuple_diskusage(total, total - self.free, self.free)  # type: ignore[attr-defined]  # noqa: E731
        monkeypatch.setattr(shutil, "disk_usage", usage)

    def write(self, reservation: Reservation, count: int) -> None:
        reservation.written += count
        self.free -= count


def has_room(space: DiskSpace, owner: str, count: int) -> bool:
    reservation = space.reserve(owner)
    try:
        space.extend(reservation, count)
    except NoRoom:
        return False
    finally:
        space.release(reservation)
    return True


def test_an_owner_holds_no_more_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    Disk(monkeypatch, 100 * GIB + KEPT_BYTES)
    space = DiskSpace(Path("/"), 0.5)
    first, second = space.reserve("anna"), space.reserve("anna")
    space.extend(first, 30 * GIB)
    space.extend(second, 20 * GIB)
    assert not has_room(space, "anna", 1)
    assert has_room(space, "bert", 25 * GIB)
    assert not has_room(space, "bert", 26 * GIB)


def test_many_owners_never_leave_a_newcomer_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    Disk(monkeypatch, 64 * GIB + KEPT_BYTES)
    space = DiskSpace(Path("/"), 0.5)
    for number in range(6):
        assert has_room(space, f"owner {number}", 32 * GIB >> number)
        space.extend(space.reserve(f"owner {number}"), 32 * GIB >> number)
    assert has_room(space, "newcomer", GIB // 4)


def test_an_announced_size_takes_nothing_where_it_has_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    Disk(monkeypatch, 50 * GIB)
    space = DiskSpace(Path("/"), 0.5)
    kept = [space.reserve("mallory") for _ in range(3)]
    for reservation in kept:
        with pytest.raises(NoRoom, match="no room for 100,000,000,000 bytes"):
            space.extend(reservation, 100_000_000_000)
    assert [reservation.reserved for reservation in kept] == [0, 0, 0]
    assert has_room(space, "bert", 20 * GIB)


def test_what_is_written_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch, 10 * GIB + KEPT_BYTES)
    space = DiskSpace(Path("/"), 1.0)
    reservation = space.reserve("anna")
    space.extend(reservation, 6 * GIB)
    disk.write(reservation, 5 * GIB)
    assert has_room(space, "bert", 4 * GIB)
    assert not has_room(space, "bert", 4 * GIB + 1)
    space.settle(reservation)
    assert has_room(space, "bert", 5 * GIB)


def test_bytes_are_returned_with_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Disk(monkeypatch, 10 * GIB + KEPT_BYTES)
    space = DiskSpace(Path("/"), 0.5)
    reservation = space.reserve("anna")
    space.extend(reservation, 5 * GIB)
    assert not has_room(space, "anna", 1)
    for _ in range(2):
        space.release(reservation)
        assert has_room(space, "anna", 5 * GIB)


def test_downloads_leave_some_of_the_disk_free(monkeypatch: pytest.MonkeyPatch) -> None:
    Disk(monkeypatch, 3 * GIB, total=50 * GIB)
    assert not has_room(DiskSpace(Path("/")), "anna", 2 * GIB + 1)
    assert has_room(DiskSpace(Path("/"), keeps_free=False), "anna", 3 * GIB)
