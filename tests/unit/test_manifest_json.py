"""Manifests as programs write JSON: objects over several lines, records with marks, URIs alone."""

from pathlib import Path

import pytest

from cluster.files.manifest import BadRow
from tests.support.manifest_files import read, rows

TWO = [("a.mp4", "en"), ("b ü.mp4", None)]
POWERSHELL = '{\n    "uri":  "a.mp4",\n    "language":  "en"\n}\n'
JQ = '{\n  "uri": "a.mp4",\n  "language": "en"\n}\n{\n  "uri": "b ü.mp4",\n  "language": null\n}\n'


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["m.json", "m.jsonl", "m.ndjson"])
def test_one_object_over_several_lines_is_read(name: str, end: str, tmp_path: Path) -> None:
    assert rows(tmp_path, name, POWERSHELL.replace("\n", end)) == TWO[:1]
    assert rows(tmp_path, name, f"\ufeff{end}{end}" + POWERSHELL.strip().replace("\n", end)) == TWO[:1]


@pytest.mark.parametrize(
    "text",
    [
        JQ,
        JQ.replace("}\n{", "} {"),
        JQ.replace("}\n{", "}{"),
        JQ.replace("}\n{", "}\n\n\n  {"),
        JQ.replace("{\n  ", "{"),
        JQ.replace("\n{\n", '\n{"uri": "b ü.mp4"}\n', 1).split('  "uri": "b')[0],
        '{"uri": "a.mp4", "language": "en"}{"uri": "b ü.mp4"}',
        '\x1e{"uri": "a.mp4", "language": "en"}\n\x1e{"uri": "b ü.mp4"}\n',
        '\x1e{"uri": "a.mp4",\n"language": "en"}\n\x1e{"uri": "b ü.mp4"}\n',
        '\x1e{"uri": "a.mp4", "language": "en"}\r\n\x1e\x1e{\r\n"uri": "b ü.mp4"}\r\n',
    ],
)
def test_objects_one_after_another_are_read(text: str, tmp_path: Path) -> None:
    assert rows(tmp_path, "m.json", text) == TWO


def test_a_row_of_several_lines_has_the_line_it_begins_on(tmp_path: Path) -> None:
    text = '{"uri": "a.mp4"}\n\n{\n  "url": "b.mp4",\n  "uri": "c.mp4"\n}\n{ "uri":\n"d.mp4", "id": 1 }\n[\n1\n]\n'
    manifest = read(tmp_path, "m.json", text)
    assert [each.uri for each in manifest.submissions] == [str(tmp_path / "a.mp4"), str(tmp_path / "d.mp4")]
    assert manifest.bad_rows == [
        BadRow(3, "the columns url and uri mean the same: keep one"),
        BadRow(9, "not a JSON object"),
    ]


BROKEN = [
    '{"uri": "x"',
    '{"uri": "x",',
    '{"uri":',
    '{"uri": "x}',
    '{"uri": x}',
    '{"uri": "x"}}',
    '{"uri": "x"},',
    '{"uri": "x"} # a comment',
    '{"uri": "x"} {"uri": }',
    "x.mp4",
    '"x.mp4"',
    "5",
    "}",
    "[",
]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_line_leaves_the_lines_around_it(broken: str, tmp_path: Path) -> None:
    good = [f'{{"uri": "{number}.mp4"}}' for number in range(4)]
    for place in range(5):
        manifest = read(tmp_path, "m.jsonl", "\n".join([*good[:place], broken, *good[place:]]))
        if broken not in {"[", '"x.mp4"'} or place:
            assert [Path(each.uri).stem for each in manifest.submissions] == ["0", "1", "2", "3"]
            assert [bad.line for bad in manifest.bad_rows] == [place + 1]


def test_broken_lines_one_after_another_are_all_named(tmp_path: Path) -> None:
    manifest = read(tmp_path, "m.jsonl", "\n".join([*BROKEN[:-1], '{"uri": "a.mp4"}']))
    assert [each.uri for each in manifest.submissions] == [str(tmp_path / "a.mp4")]
    assert [bad.line for bad in manifest.bad_rows] == list(range(1, len(BROKEN)))


def test_a_broken_object_of_several_lines_is_one_bad_row(tmp_path: Path) -> None:
    broken = '{\n  "uri": "x.mp4",\n  "language": en\n}\n'
    manifest = read(tmp_path, "m.json", JQ + broken + JQ)
    assert len(manifest.submissions) == 4
    assert manifest.bad_rows == [BadRow(9, "not valid JSON: Expecting value in line 11")]
    cut = read(tmp_path, "m.json", JQ + '{\n  "uri": "x.mp4",\n')
    assert len(cut.submissions) == 2
    assert [bad.line for bad in cut.bad_rows] == [9]


@pytest.mark.parametrize("text", ['["a.mp4", "b ü.mp4"]', '[\n"a.mp4",\n"b ü.mp4"\n]', '"a.mp4"\n"b ü.mp4"\n'])
def test_strings_are_read_as_uris(text: str, tmp_path: Path) -> None:
    assert rows(tmp_path, "m.json", text) == [("a.mp4", None), ("b ü.mp4", None)]


def test_an_empty_string_is_no_uri(tmp_path: Path) -> None:
    assert read(tmp_path, "m.json", '["a.mp4", ""]').bad_rows == [BadRow(1, "uri: is missing")]


@pytest.mark.parametrize("line", ["[", "{", '{"a":', '{"a":[', "[1,"])
def test_many_lines_that_never_close_are_soon_refused(line: str, tmp_path: Path) -> None:
    manifest = read(tmp_path, "m.json", "{}\n" + f"{line}\n" * 20_000)
    assert manifest.submissions == []
    assert manifest.bad_rows[0].line == 1
