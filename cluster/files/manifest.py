"""Manifests: many videos in one file, as csv, json lines, a json array or parquet.

A row has ``uri`` and optionally ``language`` and ``priority``; what other columns say is kept as the video's metadata.
A bad row is named with its line; it keeps none of the others out. A small local file is read in this process; a large
or remote one by Ray Data, with the same reader.
"""

import itertools
import json
import posixpath
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pydantic

from cluster.contracts.errors import ConfigurationError
from cluster.contracts.uris import local_path, scheme_of, shown
from cluster.contracts.videos import DetailedSubmission
from cluster.files.manifest_columns import COLUMNS, ManifestRow, by_column, value_text
from cluster.files.manifest_text import FORMATS, read_rows
from cluster.files.storage import expand

READER_CPUS = 0.1
"""CPUs that reading reserves: it must find room beside workers that hold most of a small machine."""
FIELDS = frozenset(COLUMNS.values())
"""What a row may say that is needed to process its video."""
LARGE_BYTES = 64 * 2**20
"""A manifest of this size is read by Ray Data, whichever node that is on."""


@dataclass(frozen=True)
class BadRow:
    """A manifest row that cannot be submitted: its line (or row, in a parquet file) and what is wrong with it.

    ``sheet_row``: its number in a spreadsheet, where that is another one. ``uri``: as the row has it, if it has one.
    """

    line: int
    reason: str
    sheet_row: int | None = None
    uri: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Manifest:
    """What a manifest holds: good rows in order, bad rows by line."""

    submissions: list[DetailedSubmission]
    bad_rows: list[BadRow]


def needs_ray(path: str) -> bool:
    """Whether ``read_manifest`` wants Ray to be initialised.

    Raises ``ConfigurationError`` for a local file that is not there or of no known format.
    """
    _suffix_of(path)
    local = local_path(path)
    if local is None:
        return True
    if not local.is_file():
        raise ConfigurationError(f"{shown(path)}: {'a folder, no manifest' if local.is_dir() else 'no such manifest'}")
    return local.stat().st_size >= LARGE_BYTES


def read_manifest(path: str) -> Manifest:
    """Read a manifest by path or fsspec URL. Relative URIs are relative to the manifest.

    Raises:
        ConfigurationError: the file cannot be read or is of no known format.
    """
    suffix = _suffix_of(path)
    rows = _rows_by_ray(path, suffix) if needs_ray(path) else _rows_here(path, suffix)
    submissions: list[DetailedSubmission] = []
    bad_rows: list[BadRow] = []
    for row in rows:
        reason = row.reason
        if reason is None:
            try:
                submissions += _submissions(row.fields, path)
                continue
            except (pydantic.ValidationError, ValueError) as error:
                reason = _reason(error)
        uri = row.fields.get("uri")
        bad_rows.append(BadRow(row.line, reason, row.sheet_row, uri if isinstance(uri, str) else None))
    return Manifest(submissions, bad_rows)


def _suffix_of(path: str) -> str:
    suffix = posixpath.splitext(_place_of(path))[1].lower()
    if suffix not in FORMATS:
        raise ConfigurationError(f"{shown(path)}: a manifest is one of {', '.join(FORMATS)}")
    return suffix


def _place_of(path: str) -> str:
    """The manifest's path or URL, on the web without its query."""
    return re.split("[?#]", path, maxsplit=1)[0] if scheme_of(path) in {"http", "https"} else path


def _rows_here(path: str, suffix: str) -> Iterator[ManifestRow]:
    local = local_path(path)
    assert local is not None  # a remote one needs Ray
    try:
        if suffix == ".parquet":
            yield from _parquet_rows(local)
        else:
            yield from read_rows(local.read_bytes(), suffix)
    except Exception as error:  # whatever the format's library raises
        raise ConfigurationError(f"{shown(path)}: cannot be read: {_first_line(error, path)}") from None


def _parquet_rows(path: Path) -> Iterator[ManifestRow]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as table:
        rows = itertools.chain.from_iterable(batch.to_pylist() for batch in table.iter_batches())
        yield from (_parquet_row(number, row) for number, row in enumerate(rows, 1))


def _parquet_row(number: int, row: dict[str, Any]) -> ManifestRow:
    try:
        return ManifestRow(number, by_column(row))
    except ValueError as error:
        return ManifestRow(number, reason=str(error))


def _rows_by_ray(path: str, suffix: str) -> Iterator[ManifestRow]:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    place, needs = _as_ray_reads(path)

    def parse(file: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"row": json.dumps(asdict(row))} for row in read_rows(file["bytes"], suffix)]

    try:
        if suffix == ".parquet":
            table = ray.data.read_parquet(place, **needs)
            yield from (_parquet_row(number, row) for number, row in enumerate(table.iter_rows(), 1))
            return
        rows = ray.data.read_binary_files(place, **needs).flat_map(parse, num_cpus=READER_CPUS).iter_rows()
        yield from (ManifestRow(**json.loads(row["row"])) for row in rows)
    except Exception as error:
        raise ConfigurationError(f"{shown(path)}: cannot be read: {_first_line(error, path)}") from None


def _as_ray_reads(path: str) -> tuple[str, dict[str, Any]]:
    """Where Ray finds the manifest, and what reading it takes: a local file is read on this node, whose file it is."""
    local = local_path(path)
    if local is None:
        return path, {"num_cpus": READER_CPUS}
    import ray

    this_node = {f"node:{ray.util.get_node_ip_address()}": 0.001}  # every node has one of its own name
    return str(local.absolute()), {"num_cpus": READER_CPUS, "resources": this_node}


def _submissions(fields: dict[str, Any], manifest: str) -> list[DetailedSubmission]:
    own = {name: value for name, value in fields.items() if name in FIELDS}
    others = {name: _json_value(value) for name, value in fields.items() if name not in FIELDS}
    read = {**own, **_whole_number(fields.get("priority")), "metadata": others or None}
    given = DetailedSubmission.model_validate(read)
    uri = given.uri
    if "://" not in uri and not posixpath.isabs(uri):
        uri = posixpath.join(posixpath.dirname(_place_of(manifest)), uri)
    return [given.model_copy(update={"uri": found}) for found in expand([uri])]


def _json_value(value: Any) -> Any:
    """A cell as JSON has it: what it has no form for (dates in parquet), as text."""
    return value if isinstance(value, str | int | float | bool | list | dict) else str(value)


def _whole_number(written: Any) -> dict[str, int]:
    """The priority of a cell, which is text in a csv file: ``2``, ``2.0``."""
    found = _NUMBER.fullmatch(written) if isinstance(written, str) else None
    return {"priority": int(found[1])} if found else {}


_NUMBER = re.compile(r"([+-]?[0-9]{1,9})(?:\.0*)?")


def _reason(error: ValueError) -> str:
    if not isinstance(error, pydantic.ValidationError):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'row'}: {_plain(e)}" for e in error.errors())


def _plain(error: Any) -> str:
    plain: dict[str, str] = {
        "missing": "is missing",
        "language": f"{value_text(error.get('input'))!r} is {error['msg']}",
        **dict.fromkeys(["int_parsing", "int_from_float"], f"{value_text(error.get('input'))!r} is not a whole number"),
    }
    return plain.get(error["type"], str(error["msg"]))


def _first_line(error: Exception, path: str) -> str:
    lines = [line for line in str(error).replace(path, shown(path)).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
