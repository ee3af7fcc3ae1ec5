"""MP4s whose index is hostile: counts, sizes, times and nesting that no muxer would write."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chaos.containers import atom, change_atoms, patched, table
from tests.chaos.hostile_file import (
    ANY_DAMAGE,
    CUT_OFF,
    NO_INDEX,
    READY,
    TOO_LONG,
    TOO_MANY_STREAMS,
    UNREADABLE,
    Becomes,
    Make,
    either,
    refused,
)
from tests.chaos.hostile_places import sparse
from tests.chaos.whole_media import mp4

STBL = "moov/trak/mdia/minf/stbl"
HUGE = 2**31 - 1


def _mp4(path: str, change: Callable[[bytes], bytes], **kind: Any) -> Make:
    return lambda file: file.write_bytes(change_atoms(mp4(**kind), path, change))


def _put(at: int, new: bytes) -> Callable[[bytes], bytes]:
    return lambda payload: patched(payload, at, new)


def _words(*words: int) -> bytes:
    return struct.pack(f">{len(words)}I", *words)


def _samples(count: int) -> Callable[[bytes], bytes]:
    """Sample tables of one atom's size that announce ``count`` samples of one byte in one chunk."""

    def change(stbl: bytes) -> bytes:
        stbl = change_atoms(stbl, "stsz", lambda _: _words(0, 1, count))
        stbl = change_atoms(stbl, "stts", lambda _: _words(0, 1, count, 3600))
        stbl = change_atoms(stbl, "stsc", lambda _: _words(0, 1, 1, count, 1))
        stbl = change_atoms(stbl, "stco", lambda _: _words(0, 1, 48))
        return change_atoms(stbl, "ctts", lambda _: _words(0, 0))

    return change


def _many_tracks(count: int, change: Callable[[bytes], bytes] = bytes) -> bytes:
    """Its only track, changed, over and over."""

    def multiply(moov: bytes) -> bytes:
        begin = moov.index(b"trak") - 4
        size = int.from_bytes(moov[begin : begin + 4], "big")
        return moov + atom(b"trak", change(moov[begin + 8 : begin + size])) * count

    return change_atoms(mp4(), "moov", multiply)


def _hidden(before: bytes, head: bytes) -> Make:
    """Sample tables of 200 million entries behind ``before``, in an atom that begins with ``head``."""

    def make(path: Path) -> None:
        data = _many_tracks(20, lambda trak: change_atoms(trak, "mdia/minf/stbl", _samples(10_000_000)))
        at = data.index(b"moov") - 4
        path.write_bytes(data[:at] + before + head + data[at + 8 :])

    return make


def _clock(mdhd: bytes) -> Make:
    """Another clock for the pictures, and no edits that would bound them."""

    def change(trak: bytes) -> bytes:
        return change_atoms(change_atoms(trak, "edts", lambda _: b""), "mdia/mdhd", lambda _: mdhd)

    return _mp4("moov/trak", change)


def _nested(name: bytes, depth: int) -> bytes:
    return b"".join(_words(8 * level) + name for level in range(depth, 0, -1))


def _one_giant_sample(path: Path) -> None:
    """A sample of 1 GB of zeros that takes no room on the disk."""
    size = 1_000_000_000
    data = change_atoms(mp4(movflags="faststart"), STBL, _samples(1))
    data = change_atoms(data, f"{STBL}/stsz", lambda _: _words(0, size, 1))
    sparse(path, len(data) + size, data)


def _compressed_index(path: Path) -> None:
    """A compressed moov atom that announces four gigabytes (QuickTime File Format, "Allowing QuickTime movies ...")."""
    packed = atom(b"cmvd", _words(0xFFFFFFF0), b"x\x9c" + bytes(100))
    path.write_bytes(atom(b"ftyp", b"qt  ", bytes(8)) + atom(b"moov", atom(b"cmov", atom(b"dcom", b"zlib"), packed)))


def _elsewhere(path: Path) -> None:
    """Samples that are said to be in another file."""
    alias = atom(
        b"alis", _words(0), bytes(150), struct.pack(">hh", 18, 12), b"/etc/passwd\0", struct.pack(">hh", -1, 0)
    )
    url = atom(b"url ", _words(0), b"file:///etc/passwd\0")
    path.write_bytes(change_atoms(mp4(), "moov/trak/mdia/minf/dinf/dref", lambda _: _words(0, 2) + alias + url))


MATRIX_AT = 40
_TOO_MANY = r"the file announces [\d,]+ pictures and pieces of sound, the limit is 19,008,000"
_ENDLESS = r"the file's index has more than 100,000 parts: it is damaged"

MP4: dict[str, tuple[Make, Becomes]] = {
    "index-cut-off.mp4": (lambda p: p.write_bytes(mp4()[:-200]), refused(NO_INDEX)),
    "pictures-cut-off.mp4": (lambda p: p.write_bytes(mp4(movflags="faststart")[:11_000]), either(CUT_OFF)),
    "atom-of-size-0.mp4": (lambda p: p.write_bytes(mp4() + _words(0) + b"free"), READY),
    "atom-of-size-1.mp4": (
        lambda p: p.write_bytes(mp4()[:32] + _words(1) + b"free" + _words(0, 1) + mp4()[32:]),
        refused(UNREADABLE),
    ),
    "atom-of-2^63-bytes.mp4": (
        lambda p: p.write_bytes(mp4()[:32] + _words(1) + b"free" + _words(2**31, 0) + mp4()[32:]),
        refused(UNREADABLE),
    ),
    "nested-moov.mp4": (lambda p: p.write_bytes(mp4()[:32] + _nested(b"moov", 20_000)), refused(ANY_DAMAGE)),
    "nested-without-end.mp4": (lambda p: p.write_bytes(mp4()[:32] + _nested(b"moov", 120_000)), refused(_ENDLESS)),
    "nested-udta.mp4": (_mp4("moov", lambda moov: moov + _nested(b"udta", 5_000)), either(ANY_DAMAGE)),
    "2^31-samples.mp4": (_mp4(f"{STBL}/stsz", lambda _: _words(0, 0, HUGE)), refused(_TOO_MANY)),
    "80-million-samples.mp4": (_mp4(STBL, _samples(80_000_000)), refused(_TOO_MANY)),
    "index-of-size-0.mp4": (
        _hidden(b"", _words(0) + b"moov"),
        refused(_TOO_MANY),
    ),
    "index-behind-200-atoms.mp4": (_hidden(atom(b"free") * 200, _words(2**31) + b"moov"), refused(_TOO_MANY)),
    "index-behind-an-unknown-atom.mp4": (_hidden(atom(b"quux"), _words(2**31) + b"moov"), refused(_TOO_MANY)),
    "index-marked-as-free.mp4": (_hidden(b"", _words(2**31) + b"free"), refused(_TOO_MANY)),
    "stts-of-2^32.mp4": (
        _mp4(f"{STBL}/stts", lambda _: _words(0, 2, 1, HUGE, 0xFFFFFFFF, 0xFFFFFFFF)),
        either(ANY_DAMAGE),
    ),
    "ctts-of-2^28.mp4": (
        _mp4(STBL, lambda stbl: stbl + table(b"ctts", HUGE, HUGE, declared=2**28)),
        either(ANY_DAMAGE),
    ),
    "stsc-of-2^31.mp4": (_mp4(f"{STBL}/stsc", lambda _: _words(0, 1, 1, HUGE, 1)), either(ANY_DAMAGE)),
    "edits-without-end.mp4": (
        _mp4("moov/trak/edts/elst", lambda _: _words(0, 100_000) + _words(1, 0, 0x10000) * 100_000),
        either(ANY_DAMAGE),
    ),
    "edit-of-negative-times.mp4": (
        _mp4("moov/trak/edts/elst", lambda _: _words(0, 2, 0xFFFFFFFF, 0xFFFFFFFF, 0, 1200, 0x80000000, 0xFFFFFFFF)),
        either(ANY_DAMAGE),
    ),
    "lasts-for-ever.mp4": (_clock(b"\1" + bytes(19) + _words(1, HUGE, HUGE, 0)), refused(TOO_LONG)),
    "lasts-less-than-nothing.mp4": (
        _mp4(f"{STBL}/stts", lambda _: _words(0, 4, 30, 3600, *[HUGE] * 6)),
        either(ANY_DAMAGE),
    ),
    "0-ticks-per-s.mp4": (_clock(bytes(12) + _words(0, 108_000, 0)), either(ANY_DAMAGE)),
    "1-tick-per-s.mp4": (_clock(bytes(12) + _words(1, 108_000, 0)), refused(TOO_LONG)),
    "2^32-ticks-per-s.mp4": (_clock(bytes(12) + _words(0xFFFFFFFF, 108_000, 0)), either(ANY_DAMAGE)),
    "32767-x-32767-announced.mp4": (
        _mp4(f"{STBL}/stsd", lambda stsd: patched(stsd, 8 + 32, b"\x7f\xff\x7f\xff")),
        READY,
    ),
    "0-x-0-announced.mp4": (_mp4(f"{STBL}/stsd", lambda stsd: patched(stsd, 8 + 32, bytes(4))), READY),
    "pixels-without-width.mp4": (
        _mp4(f"{STBL}/stsd", lambda stsd: _words(0, 1) + atom(stsd[12:16], stsd[16:], atom(b"pasp", _words(0, HUGE)))),
        READY,
    ),
    "skewed.mp4": (_mp4("moov/trak/tkhd", _put(MATRIX_AT, _words(0x7FFF, 0x80000000, 1, HUGE, 3, 5, 0, 0, 0))), READY),
    "no-matrix.mp4": (_mp4("moov/trak/tkhd", _put(MATRIX_AT, bytes(36))), READY),
    "encrypted.mp4": (
        _mp4(f"{STBL}/stsd", lambda stsd: patched(stsd, 12, b"encv") if b"avc1" in stsd else stsd),
        either(f"{ANY_DAMAGE}|the pictures' codec .+ cannot be decoded"),
    ),
    "60000-tracks.mp4": (lambda p: p.write_bytes(_many_tracks(59_999)), refused(_ENDLESS)),
    "3000-tracks.mp4": (lambda p: p.write_bytes(_many_tracks(2999)), refused(TOO_MANY_STREAMS)),
    "100-tracks.mp4": (lambda p: p.write_bytes(_many_tracks(99)), refused(TOO_MANY_STREAMS)),
    "compressed-index.mov": (_compressed_index, refused(ANY_DAMAGE)),
    "lies-elsewhere.mp4": (_elsewhere, either(ANY_DAMAGE)),
    "giant-sample.mp4": (_one_giant_sample, refused(ANY_DAMAGE)),
}
