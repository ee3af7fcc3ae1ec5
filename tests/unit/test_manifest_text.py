"""Manifests as spreadsheets, editors and programs write them are read, without Ray."""

import sys
from pathlib import Path

import pytest

from cluster.cli.report import print_bad_rows
from cluster.contracts.errors import ConfigurationError
from cluster.contracts.videos import DetailedSubmission
from cluster.files.manifest import BadRow, needs_ray, read_manifest
from tests.support.manifest_files import read, reason, rows

SHARED_MEDIA = Path(__file__).resolve().parents[3] / "shared" / "media"

TWO = [("a.mp4", "en"), ("b ü.mp4", None)]
HEADER = "uri,language"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_csv_of_any_separator_and_line_end_is_read(tmp_path: Path, separator: str, end: str) -> None:
    lines = [f"uri{separator}language", f"a.mp4{separator}en", "", f"b ü.mp4{separator}", ""]
    assert rows(tmp_path, "m.csv", end.join(lines)) == TWO


@pytest.mark.parametrize("name", ["m.csv", "m.tsv", "m.txt", "m.CSV"])
def test_csv_is_read_whatever_its_suffix(tmp_path: Path, name: str) -> None:
    assert rows(tmp_path, name, "uri\tlanguage\na.mp4\ten\nb ü.mp4\t\n") == TWO


@pytest.mark.parametrize("first", ["sep=;", "SEP=;", '"sep=;"', "sep=;;;;"])
def test_csv_with_a_sep_line_is_read_by_it(tmp_path: Path, first: str) -> None:
    assert rows(tmp_path, "m.csv", f"{first}\r\nuri;language\r\na.mp4;en\r\nb ü.mp4;\r\n") == TWO
    assert rows(tmp_path, "m.csv", f"\ufeff{first}\r\nuri;language\r\na,b.mp4;\r\n") == [("a,b.mp4", None)]
    bad = read(tmp_path, "m.csv", f"{first}\r\nuri;language\r\na.mp4;en\r\n;de\r\n").bad_rows
    assert bad == [BadRow(4, "uri: is missing", sheet_row=3)]


@pytest.mark.parametrize("separator", ["\\t", "\t", "#"])
def test_csv_with_a_sep_line_may_have_any_separator(tmp_path: Path, separator: str) -> None:
    written = separator.replace("\\t", "\t")
    lines = [f"sep={separator}", f"uri{written}language", f"a.mp4{written}en", f"b ü.mp4{written}"]
    assert rows(tmp_path, "m.csv", "\r\n".join(lines)) == TWO


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "BOM utf-16-le", "BOM utf-16-be"],
)
def test_csv_of_any_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    text = "uri;language\r\na.mp4;en\r\nb ü.mp4;\r\n"
    marked = f"\ufeff{text}".encode(encoding.removeprefix("BOM ")) if "BOM" in encoding else text.encode(encoding)
    assert rows(tmp_path, "m.csv", marked) == TWO


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_json_lines_of_any_encoding_are_read(tmp_path: Path, encoding: str, end: str) -> None:
    lines = ["", '{"uri": "a.mp4", "language": "en"}', " ", '{"uri": "b ü.mp4", "language": null}', ""]
    for name in ("m.jsonl", "m.ndjson", "m.json"):
        assert rows(tmp_path, name, end.join(lines).encode(encoding)) == TWO


def test_text_in_no_known_encoding_names_its_line(tmp_path: Path) -> None:
    neither = b"uri\na.mp4\n\x81\xfc.mp4\n"
    assert read(tmp_path, "m.csv", neither).bad_rows == [
        BadRow(3, "neither UTF-8 nor Windows-1252 text: export it as CSV (UTF-8)")
    ]
    assert read(tmp_path, "m.jsonl", '{"uri": "a"}\n{"uri": "ü"}'.encode("cp1252")).bad_rows == [
        BadRow(2, "not UTF-8 text: save it as UTF-8")
    ]


@pytest.mark.parametrize(
    "header",
    ["URI,Language", " uri , LANGUAGE ", '"Uri","Language"', "uri , language,,", "Url,lang", "PATH,Lang", "file,LANG",
     "Link,language", "Video URL,Language", "video_url,language", "File Path , language code", "FullName,Language",
     "#TYPE System.IO.FileInfo\n\"uri\",\"language\"", "# a list; of videos\n\nuri,language",
     "\ufeff\u200buri\u200b,language", '\ufeff"uri", "language"', "\xa0uri\xa0,language"],
)  # fmt: skip
def test_header_in_any_case_with_spaces_is_read(tmp_path: Path, header: str) -> None:
    assert rows(tmp_path, "m.csv", f"{header}\na.mp4,en\nb ü.mp4,\n") == TWO
    json_header = [name.strip('"\ufeff ') for name in header.splitlines()[-1].split(",")]
    fields = f'{{"{json_header[0]}": " a.mp4 ", "{json_header[1]}": "en"}}\n{{"{json_header[0]}": "b ü.mp4"}}'
    assert rows(tmp_path, "m.jsonl", fields) == TWO


def test_values_are_read_without_spaces_around(tmp_path: Path) -> None:
    assert rows(tmp_path, "m.csv", 'uri , language\n a.mp4 , "en"\n"b ü.mp4 ",\t\n') == TWO


@pytest.mark.parametrize("none", ["NULL", "\\N", "NaN", "NA", "<NA>", "\u200b", "\xa0"])
def test_what_programs_write_for_no_value_is_none(tmp_path: Path, none: str) -> None:
    lines = ["uri,language,priority", f"a.mp4,en,{none}", f"b ü.mp4,{none},0.0", f"{none},{none},{none}", ""]
    manifest = read(tmp_path, "m.csv", "\n".join(lines))
    assert [(Path(each.uri).name, each.language, each.priority) for each in manifest.submissions] == [
        ("a.mp4", "en", 0),
        ("b ü.mp4", None, 0),
    ]
    assert rows(tmp_path, "m.jsonl", '{"uri": "a.mp4", "language": "en", "priority": NaN}') == TWO[:1]


@pytest.mark.parametrize("name", ["", '""', "Unnamed: 0", "__index_level_0__"])
def test_row_numbers_of_programs_are_left_out(tmp_path: Path, name: str) -> None:
    assert rows(tmp_path, "m.csv", f'{name},uri,language\n0,a.mp4,en\n"1",b ü.mp4,\n') == TWO
    odd = read(tmp_path, "m.csv", f"{name},uri\nx,a.mp4\n")  # no number: a value, which has to have a name
    assert [each.metadata for each in odd.submissions] == ([{name: "x"}] if name.strip('"') else [])
    assert len(odd.bad_rows) == 1 - len(odd.submissions)


def test_empty_rows_and_columns_are_left_out(tmp_path: Path) -> None:
    lines = [",,", "", "uri,language,,", "a.mp4,en,,", ",,,", "   ", " , ,", '"","",', "b ü.mp4,,,,,,", ",", ""]
    assert rows(tmp_path, "m.csv", "\r\n".join(lines)) == TWO


def test_a_quoted_field_may_hold_separators_and_lines(tmp_path: Path) -> None:
    manifest = read(tmp_path, "m.csv", 'uri;language\n"https://h/a;b,c\n""d"".mp4";en\n;de\nhttps://h/e.mp4;english\n')
    assert [each.uri for each in manifest.submissions] == ['https://h/a;b,c\n"d".mp4']
    assert [(bad.line, bad.sheet_row) for bad in manifest.bad_rows] == [(4, 3), (5, 4)]


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("uri,uri", "there are two columns uri: keep one"),
        ("uri,language,Uri", "the columns uri and Uri mean the same: keep one"),
        ("path,language,URL", "the columns path and URL mean the same: keep one"),
        ("uri,title,title", "there are two columns title: keep one"),
        ("name,language", "the header has no column uri: it is name, language"),
        ("name;language", "the header has no column uri: it is name, language"),
        ("a.mp4", "the header has no column uri: it is a.mp4"),
    ],
)
def test_a_header_that_cannot_be_read_is_named(tmp_path: Path, header: str, sentence: str) -> None:
    assert reason(tmp_path, "m.csv", f"{header}\na.mp4,en,x\n") == sentence


def test_rows_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    text = "uri,,language\na.mp4,,en\nb.mp4,x,en\nc.mp4,,en,y,,z\n"
    manifest = read(tmp_path, "m.csv", text)
    assert len(manifest.submissions) == 1
    assert manifest.bad_rows == [
        BadRow(3, "'x' is in a column without a name"),
        BadRow(4, "2 fields more than the header has"),
    ]
    swallowed = read(tmp_path, "m.csv", f'{HEADER}\n"a.mp4,en\nb.mp4,en\nc.mp4,"en"\nd.mp4,en\n')
    assert [each.uri for each in swallowed.submissions] == [str(tmp_path / "d.mp4")]
    assert swallowed.bad_rows == [BadRow(2, "not valid csv: ',' expected after '\"'; lines 2 to 4 were not read")]
    open_quote = read(tmp_path, "m.csv", f'{HEADER}\n"a.mp4,en\nb.mp4,en\n').bad_rows
    assert [bad.line for bad in open_quote] == [2]
    assert "never closed" in open_quote[0].reason


@pytest.mark.parametrize("written", ["en", "EN", "en-US", "en_GB", " En ", "en-Latn-US"])
def test_a_language_with_its_region_is_its_code(tmp_path: Path, written: str) -> None:
    assert rows(tmp_path, "m.csv", f"{HEADER}\na.mp4,{written}\n") == [("a.mp4", "en")]


SIGNED = "https://h/a,1.mp4?list=2,x&X-Amz-Signature=secret"


@pytest.mark.parametrize(
    "text",
    [
        f"{SIGNED}\n{SIGNED}\n",
        f"uri,language\n{SIGNED},en\n",
        f"language,uri\n{SIGNED.replace(',', '')},a.mp4\n",
        f"uri,priority\n{SIGNED.replace('2,', '')}\n",
        f"uri,,language\na.mp4,{SIGNED.replace(',', '')},\nb.mp4,https://user:secret@h/b.mp4,\n",
    ],
)
def test_a_bad_row_shows_nothing_secret(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = read(tmp_path, "m.csv", text)
    assert manifest.bad_rows
    print_bad_rows("https://h/m.csv?signature=secret", manifest.bad_rows)
    assert "secret" not in capsys.readouterr().err


def test_a_bad_row_has_its_uri(tmp_path: Path) -> None:
    text = "uri,language,priority\nhttps://h/a.mp4,english,\nhttps://h/b.mp4,,1.5\n,de,\n"
    assert [(bad.line, bad.uri) for bad in read(tmp_path, "m.csv", text).bad_rows] == [
        (2, "https://h/a.mp4"),
        (3, "https://h/b.mp4"),
        (4, None),
    ]


def test_a_priority_is_read_of_any_format(tmp_path: Path) -> None:
    wanted = [DetailedSubmission(uri=str(tmp_path / "a.mp4"), priority=3)]
    assert read(tmp_path, "m.csv", "uri;Priority\na.mp4;3\n").submissions == wanted
    assert read(tmp_path, "m.jsonl", '{"uri": "a.mp4", "priority": 3}').submissions == wanted


@pytest.mark.parametrize(
    "text",
    [
        '[{"uri":"a.mp4","language":"en"},{"uri":"b ü.mp4"}]',
        '\ufeff[\r\n  {"uri": "a.mp4",\r\n   "language": "en"},\r\n\r\n  {"uri": "b ü.mp4"}\r\n]\r\n',
        ' \n[ {"uri":"a.mp4","language":"en"} ,{"uri":"b ü.mp4"} ] ',
    ],
)
def test_a_json_array_is_read(tmp_path: Path, text: str) -> None:
    assert rows(tmp_path, "m.jsonl", text) == TWO
    assert rows(tmp_path, "m.json", text) == TWO


def test_bad_rows_of_a_json_array_are_named_by_line(tmp_path: Path) -> None:
    text = '[\n{"uri": "a.mp4"},\n5,\n{"URI": "b", "url": "c"},\n{"uri": "d", "uri": "e"}\n]'
    manifest = read(tmp_path, "m.json", text)
    assert [each.uri for each in manifest.submissions] == [str(tmp_path / "a.mp4")]
    assert manifest.bad_rows == [
        BadRow(3, "not a JSON object"),
        BadRow(4, "the columns URI and url mean the same: keep one"),
        BadRow(5, "there are two columns uri: keep one"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ('[{"uri": "a.mp4"}', 1, "not valid JSON: the array is not closed after this object"),
        ('[{"uri": "a.mp4"},\n{"uri": ]', 2, "not valid JSON: Expecting value at column 9"),
        ('[{"uri": "a.mp4"}]\n[]', 2, "not a JSON object"),
        ('[\n{"uri": "a.mp4"}]]', 2, "not valid JSON: something follows the end of the array"),
        ("[" * 100_000, 1, "not valid JSON: nested too deeply"),
    ],
)
def test_a_json_array_that_breaks_off_is_named(tmp_path: Path, text: str, line: int, sentence: str) -> None:
    assert read(tmp_path, "m.json", text).bad_rows[-1] == BadRow(line, sentence)


@pytest.mark.parametrize("content", [b"PK\x03\x04xyz", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"])
def test_a_workbook_is_refused_by_its_name(tmp_path: Path, content: bytes) -> None:
    assert reason(tmp_path, "m.csv", content) == "this is a spreadsheet's own format: export it as CSV (UTF-8)"


def test_a_small_local_manifest_needs_no_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert rows(tmp_path, "m.csv", f"{HEADER}\na.mp4,en\nb ü.mp4,\n") == TWO
    assert not needs_ray(str(tmp_path / "m.csv"))
    assert needs_ray("s3://bucket/m.csv")
    assert needs_ray("https://host/m.csv?signature=a/b")
    with pytest.raises(ConfigurationError, match=r"^https://host/m\.doc: a manifest is one of"):
        needs_ray("https://host/m.doc?signature=secret.csv")
    for name, sentence in {"": "a folder, no manifest", "none.csv": "no such manifest"}.items():
        folder = tmp_path / "folder.csv"
        folder.mkdir(exist_ok=True)
        with pytest.raises(ConfigurationError, match=sentence):
            needs_ray(str(tmp_path / name) if name else str(folder))


REPORTED = {
    "arr.jsonl": 1, "bom.csv": 3, "cp1252.csv": 2, "cr.csv": 2, "crlf.jsonl": 2, "dup.csv": 3, "dupcol.csv": 0,
    "empties.csv": 1, "lang.csv": 3, "q2.csv": 1, "quote.csv": 0, "semi.csv": 2, "sep.csv": 1, "spaces.csv": 2,
    "tab.csv": 1, "title.csv": 1, "upper.csv": 1, "utf16.csv": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", REPORTED)
def test_a_reported_manifest_is_read(name: str) -> None:
    path = SHARED_MEDIA / "reported" / "manifests" / name
    if not path.is_file():
        pytest.skip(f"{path} is not here; files made above are of the same kinds")
    manifest = read_manifest(str(path))
    assert len(manifest.submissions) == REPORTED[name]
    assert len(manifest.bad_rows) == (name in {"dupcol.csv", "lang.csv", "quote.csv"})
