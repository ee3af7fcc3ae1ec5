"""Manifests written and read by the tests: what is submitted of one, or the one sentence that refuses it."""

from pathlib import Path

from cluster.files.manifest import Manifest, read_manifest


def read(folder: Path, name: str, content: str | bytes) -> Manifest:
    """The parsed manifest with this content."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_manifest(str(path))


def rows(folder: Path, name: str, content: str | bytes) -> list[tuple[str, str | None]]:
    """The submissions of a manifest that has no bad row."""
    manifest = read(folder, name, content)
    assert manifest.bad_rows == []
    return [(str(Path(each.uri).relative_to(folder)), each.language) for each in manifest.submissions]


def reason(folder: Path, name: str, content: str | bytes) -> str:
    """Why nothing is submitted of a manifest that has one bad row."""
    manifest = read(folder, name, content)
    assert manifest.submissions == []
    (bad,) = manifest.bad_rows
    return bad.reason
