"""Manifests: many videos in one csv, jsonl or parquet file, read with Ray Data.

A row has ``uri`` and optionally ``language``. A bad row is named with its line; it keeps none of the others out.
"""

import csv
import io
import json
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from cluster.contracts.errors import ConfigurationError
from cluster.contracts.videos import Submission
from cluster.storage import expand
from cluster.video_uris import local_path

FORMATS = (".csv", ".jsonl", ".parquet")
READER_CPUS = 0.1
"""What reading reserves: it must find room beside workers that hold most of a small machine."""


@dataclass(frozen=True)
class BadRow:
    """A manifest row that cannot be submitted: its line (or row, in a parquet file) and what is wrong with it."""

    line: int
    reason: str


@dataclass(frozen=True)
class Manifest:
    """What a manifest holds: good rows in order, bad rows by line."""

    submissions: list[Submission]
    bad_rows: list[BadRow]


def read_manifest(path: str) -> Manifest:
    """Read a manifest by path or fsspec URL. Ray must be initialised. Relative URIs are relative to the manifest.

    Raises:
        ConfigurationError: the file cannot be read or is of no known format.
    """
    suffix = posixpath.splitext(path)[1].lower()
    if suffix not in FORMATS:
        raise ConfigurationError(f"{path}: a manifest is one of {', '.join(FORMATS)}")
    if "://" not in path and not Path(path).is_file():
        raise ConfigurationError(f"{path}: no such manifest")
    submissions: list[Submission] = []
    bad_rows: list[BadRow] = []
    for line, fields, reason in _rows(path, suffix):
        if reason is None:
            try:
                submissions += _submissions(fields, path)
                continue
            except (pydantic.ValidationError, ValueError) as error:
                reason = _reason(error)
        bad_rows.append(BadRow(line, reason))
    return Manifest(submissions, bad_rows)


def _as_ray_reads(path: str) -> tuple[str, dict[str, Any]]:
    """Where Ray finds the manifest, and what reading it takes: a local file is read on this node, whose file it is."""
    local = local_path(path)
    if local is None:
        return path, {"num_cpus": READER_CPUS}
    import ray

    this_node = {f"node:{ray.util.get_node_ip_address()}": 0.001}  # every node has one of its own name
    return str(local.absolute()), {"num_cpus": READER_CPUS, "resources": this_node}


def _rows(path: str, suffix: str) -> Iterator[tuple[int, dict[str, Any], str | None]]:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    place, needs = _as_ray_reads(path)
    try:
        if suffix == ".parquet":
            table = ray.data.read_parquet(place, **needs)
            yield from ((number, row, None) for number, row in enumerate(table.iter_rows(), 1))
            return
        parse = _parse_csv if suffix == ".csv" else _parse_jsonl
        lines = ray.data.read_binary_files(place, **needs).flat_map(parse, num_cpus=READER_CPUS)
        yield from ((row["line"], json.loads(row["fields"]), row["reason"] or None) for row in lines.iter_rows())
    except Exception as error:
        raise ConfigurationError(f"{path}: cannot be read: {_first_line(error)}") from None


def _parse_csv(file: dict[str, Any]) -> list[dict[str, Any]]:
    text, broken = _decoded(file["bytes"])
    if broken:
        return [broken]
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[dict[str, Any]] = []
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1  # where the row begins: a quoted field may have several lines
        try:
            values = next(reader, None)
        except csv.Error as error:
            rows.append(_row(line, {}, f"not valid csv: {error}"))
            continue
        if values is None:
            return rows if header else [*rows, _row(1, {}, "the header has no column uri: it is empty")]
        if header is None and values:
            header = values
            if "uri" not in header:
                return [_row(line, {}, f"the header has no column uri: it is {', '.join(header)}")]
        elif header is not None and values:
            rows.append(_csv_row(line, header, values))


def _csv_row(line: int, header: list[str], values: list[str]) -> dict[str, Any]:
    surplus = len(values) - len(header)
    reason = f"{surplus} fields more than the header has" if surplus > 0 else None
    return _row(line, {name: value for name, value in zip(header, values, strict=False) if value}, reason)


def _parse_jsonl(file: dict[str, Any]) -> list[dict[str, Any]]:
    text, broken = _decoded(file["bytes"])
    if broken:
        return [broken]
    return [_parse_json(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _parse_json(number: int, line: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        return _row(number, {}, f"not valid JSON: {error.msg} at column {error.colno}")
    if not isinstance(fields, dict):
        return _row(number, {}, "not a JSON object")
    return _row(number, fields, None)


def _row(line: int, fields: dict[str, Any], reason: str | None) -> dict[str, Any]:
    return {"line": line, "fields": json.dumps(fields), "reason": reason or ""}


def _decoded(content: bytes) -> tuple[str, dict[str, Any] | None]:
    try:
        return content.decode("utf-8-sig"), None
    except UnicodeDecodeError as error:
        return "", _row(content[: error.start].count(b"\n") + 1, {}, "not UTF-8 text")


def _submissions(fields: dict[str, Any], manifest: str) -> list[Submission]:
    given = Submission.model_validate({name: value for name, value in fields.items() if value is not None})
    uri = given.uri
    if "://" not in uri and not posixpath.isabs(uri):
        uri = posixpath.join(posixpath.dirname(manifest), uri)
    return [given.model_copy(update={"uri": found}) for found in expand([uri])]


def _reason(error: ValueError) -> str:
    if not isinstance(error, pydantic.ValidationError):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'row'}: {_plain(e)}" for e in error.errors())


def _plain(error: Any) -> str:
    plain: dict[str, str] = {
        "missing": "is missing",
        "extra_forbidden": "is not a column of a manifest (uri, language)",
        "string_pattern_mismatch": f"{error.get('input')!r} is not a language code such as en",
    }
    return plain.get(error["type"], str(error["msg"]))


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
