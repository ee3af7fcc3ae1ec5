"""Manifests read here and by a real Ray Data: what goes in, and which line is named for what does not."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from cluster.contracts.errors import ConfigurationError
from cluster.contracts.videos import DetailedSubmission
from cluster.files import manifest as manifests
from cluster.files.manifest import BadRow, Manifest, read_manifest
from tests.support.small_ray import small_ray

# Ray Data's own, when it reads its own defaults.
pytestmark = pytest.mark.filterwarnings(r"ignore:`use_\w+` is deprecated:DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def ray_of_this_module() -> Iterator[None]:
    with small_ray():
        yield


@pytest.fixture(autouse=True, params=["here", "by Ray"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of the two reads: the rows are the same."""
    if request.param == "by Ray":
        monkeypatch.setattr(manifests, "LARGE_BYTES", 0)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A folder of videos beside the manifests."""
    folder = tmp_path / "videos"
    (folder / "more").mkdir(parents=True)
    for name in ("b.mp4", "a.mp4", "notes.txt", "more/c.mkv", ".hidden.mp4"):
        (folder / name).touch()
    return folder


def read(folder: Path, name: str, content: str | bytes) -> Manifest:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_manifest(str(path))


def uris(manifest: Manifest) -> list[str]:
    return [submission.uri for submission in manifest.submissions]


def test_a_csv_names_every_bad_row_by_the_line_it_begins_on(tmp_path: Path) -> None:
    content = (
        "\ufeffuri,language\r\n"
        "https://host/1.mp4,en\r\n"
        "\r\n"
        '"https://host/a\r\nb.mp4",\r\n'
        "https://host/2.mp4,english\r\n"
        ",de\r\n"
        "https://host/3.mp4,en,x,y\r\n"
        "https://host/4.mp4\r\n"
        '"bro"ken,en\r\n'
        "https://host/5.mp4,de\r\n"
        '"never closed,en\r\n'
        "https://host/6.mp4,de\r\n"
    )
    manifest = read(tmp_path, "videos.csv", content)
    assert manifest.submissions == [
        DetailedSubmission(uri="https://host/1.mp4", language="en"),
        DetailedSubmission(uri="https://host/a\r\nb.mp4"),
        DetailedSubmission(uri="https://host/4.mp4"),
        DetailedSubmission(uri="https://host/5.mp4", language="de"),
    ]
    assert [row.line for row in manifest.bad_rows] == [6, 7, 8, 10, 12]
    reasons = [row.reason for row in manifest.bad_rows]
    assert reasons[0].startswith("language: 'english' is no language that can be transcribed; it is one of af, am, ")
    assert reasons[1:3] == [
        "uri: is missing",
        "2 fields more than the header has",
    ]
    assert all(reason.startswith("not valid csv: ") for reason in reasons[3:])


def test_other_columns_are_kept_as_metadata(tmp_path: Path) -> None:
    manifest = read(tmp_path, "m.csv", "title,uri\nmine,https://host/1.mp4\n,https://host/2.mp4\n")
    assert uris(manifest) == ["https://host/1.mp4", "https://host/2.mp4"]
    assert [each.metadata for each in manifest.submissions] == [{"title": "mine"}, None]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "the header has no column uri: it is empty"),
        ("\n\n", "the header has no column uri: it is empty"),
        ("title,language\nx,en\n", "the header has no column uri: it is title, language"),
    ],
)
def test_a_csv_without_its_header_is_one_bad_row(tmp_path: Path, content: str, reason: str) -> None:
    assert read(tmp_path, "m.csv", content) == Manifest([], [BadRow(1, reason)])


def test_a_csv_with_nothing_but_its_header_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path, "m.csv", "uri,language\n") == Manifest([], [])


def test_a_jsonl_names_every_bad_row_by_its_line(tmp_path: Path) -> None:
    strange = "https://host/line\u2028separator\x85.mp4"
    lines = [
        json.dumps({"uri": "https://host/1.mp4", "language": None}),
        "",
        json.dumps({"uri": strange, "language": "de"}, ensure_ascii=False),
        "{broken",
        "[1, 2]",
        json.dumps({"language": "de"}),
        json.dumps({"uri": 5}),
        json.dumps({"uri": "https://host/\ud800.mp4"}),
        json.dumps({"uri": "https://host/\0.mp4"}),
        json.dumps({"uri": "https://host/2.mp4", "title": "x"}),
        json.dumps({"uri": "https://host/3.mp4"}),
    ]
    manifest = read(tmp_path, "m.jsonl", "\r\n".join(lines))
    assert manifest.submissions == [
        DetailedSubmission(uri="https://host/1.mp4"),
        DetailedSubmission(uri=strange, language="de"),
        DetailedSubmission(uri="https://host/2.mp4", metadata={"title": "x"}),
        DetailedSubmission(uri="https://host/3.mp4"),
    ]
    assert [row.line for row in manifest.bad_rows] == [4, 5, 6, 7, 8, 9]
    reasons = [row.reason for row in manifest.bad_rows]
    assert reasons[0].startswith("not valid JSON: ")
    assert reasons[1:3] == ["not a JSON object", "uri: is missing"]
    assert all(reason.startswith("uri: ") for reason in reasons[3:6])


def test_an_empty_jsonl_is_an_empty_manifest(tmp_path: Path) -> None:
    assert read(tmp_path, "m.jsonl", "") == Manifest([], [])


def test_a_parquet_keeps_its_order_over_many_row_groups(tmp_path: Path) -> None:
    table = pa.table(
        {
            "uri": [f"https://host/{n}.mp4" if n != 7 else None for n in range(200)],
            "language": [None if n % 2 else "en" for n in range(200)],
        }
    )
    pa.parquet.write_table(table, tmp_path / "m.parquet", row_group_size=16)
    manifest = read_manifest(str(tmp_path / "m.parquet"))
    assert uris(manifest) == [f"https://host/{n}.mp4" for n in range(200) if n != 7]
    assert [submission.language for submission in manifest.submissions[:3]] == ["en", None, "en"]
    assert manifest.bad_rows == [BadRow(8, "uri: is missing")]


def test_relative_places_are_relative_to_the_manifest(
    tmp_path: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["uri", "videos/a.mp4", "videos", "videos/*.mp4", "videos/none.mp4", str(videos / "b.mp4")]
    everything = [
        str(videos / "a.mp4"),
        *[str(videos / name) for name in ("a.mp4", "b.mp4", "more/c.mkv")],
        *[str(videos / name) for name in ("a.mp4", "b.mp4")],
        str(videos / "none.mp4"),
        str(videos / "b.mp4"),
    ]
    manifest = read(tmp_path, "m.csv", "\n".join(lines))
    assert (uris(manifest), manifest.bad_rows) == (everything, [])
    monkeypatch.chdir(videos)
    assert uris(read_manifest("../m.csv")) == [
        uri.replace(str(videos), f"{videos}/../videos") for uri in everything[:-1]
    ] + [everything[-1]]


def test_a_manifest_may_have_a_strange_name(tmp_path: Path) -> None:
    folder = tmp_path / "my lists #1 %20"
    folder.mkdir()
    assert uris(read(folder, "a [b]?.csv", "uri\nhttps://host/1.mp4\n")) == ["https://host/1.mp4"]


def test_manifest_that_is_no_text_names_the_line(tmp_path: Path) -> None:
    damaged = "uri\nhttps://host/ö.mp4\n".encode() + "https://host/ä.mp4\n".encode("latin-1")
    assert read(tmp_path, "m.csv", damaged) == Manifest([], [BadRow(3, "not UTF-8 text: export it as CSV (UTF-8)")])
    assert read(tmp_path, "m.jsonl", b"\xff\xfe{") == Manifest([], [BadRow(1, "not UTF-16 text: save it as UTF-8")])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("none.csv", "none.csv: no such manifest"),
        ("m.xlsx", "m.xlsx: a manifest is one of .csv, .jsonl, .parquet"),
        ("broken.parquet", "broken.parquet: cannot be read: "),
    ],
)
def test_what_is_no_manifest_is_refused_in_one_line(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "broken.parquet").write_text("this is text")
    with pytest.raises(ConfigurationError) as raised:
        read_manifest(str(tmp_path / name))
    assert str(raised.value).startswith(f"{tmp_path}/{sentence}")
    assert "\n" not in str(raised.value)
