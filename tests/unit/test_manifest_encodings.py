"""Manifests in an 8-bit encoding: Windows-1252 is read, every other one that can be recognised is refused."""

from pathlib import Path

import pytest

from cluster.files.manifest import BadRow
from tests.support.manifest_files import read

NEITHER = "neither UTF-8 nor Windows-1252 text: export it as CSV (UTF-8)"
NOT_UTF_8 = "not UTF-8 text: export it as CSV (UTF-8)"

WESTERN = [
    "Été à l’île",
    "Café “Zoë” – 5 €",
    "L’été…",
    "« Été » à Liège",
    "«\xa0Été à l’île\xa0»",
    "Le «\xa0café\xa0: fin\xa0»…",
    "Zoë et André–Élise",
    "l’“Être”… déjà",
    "Noël “à l’école” — 10\xa0€",
    "Créée à Créüse",
    "Œuvre d’œufs à 3 °C",
    "Größe „Öffnungsübung“",
    "„Über“-Äußerung für Süßmäuler…",
    "Straße – Fuß & Maß ½",
    "¿Qué pasó, señor Ibáñez?",
    "¡Ánimo! 2ª edición nº 3",
    "Ação e coração: lições",
    "São João – “Ilhéus”",
    "Rødgrød med fløde på Ærø",
    "Blåbærsyltetøj på øen",
    "Hääyöaie ja työyö",
    "Yötyö, jäätelö ja pöllö",
    "Þjóðvegur á Ísafjörð",
    "Fæðingarorlof og þýðing",
    "Sjö sjösjuka sjömän på Åland",
    "Perché è così: l’università",
    "Coöperatie naïef reünie",
    "© 2024 Señor™ – §5 ® 10£",
    "Škoda à Žilina",
    "Yöääni ja työääni",
    "Þýðing, þíða, víðátta og GÓÐÆRI",
    "friðþæging",
    "Umlaute äöüß, åäö und æøå",
    "Restaurant €€€ ••• …",
    "Leica ƒ2.8 ± 1 · 50µ × 2³",
]


@pytest.mark.parametrize("name", WESTERN)
def test_western_names_in_windows_1252_are_read(name: str, tmp_path: Path) -> None:
    content = f"uri;language\r\ns3://b/{name}.mp4;en\r\n".encode("cp1252")
    manifest = read(tmp_path, "m.csv", content)
    assert [each.uri for each in manifest.submissions] == [f"s3://b/{name}.mp4"]
    assert manifest.bad_rows == []


FOREIGN = [
    ("cp1251", "привет"),
    ("cp1251", "Съёмка в Москве 2024"),
    ("koi8-r", "привет"),
    ("cp1251", "Відео – “Київ”"),
    ("cp1253", "Καλημέρα"),
    ("cp1253", "Βίντεο 1"),
    ("cp1255", "שלום"),
    ("cp1256", "مرحبا"),
    ("cp874", "สวัสดี"),
    ("cp932", "日本語 会議"),
    ("cp932", "テスト"),
    ("cp932", "あいさつ"),
    ("cp932", "ﾃｽﾄ"),
    ("cp932", "録画"),
    ("cp932", "動画"),
    ("euc-jp", "日本語"),
    ("cp949", "회의"),
    ("cp949", "면접"),
    ("cp949", "강의_01강"),
    ("cp949", "이사"),
    ("cp949", "오늘"),
    ("cp949", "회의 영상"),
    ("cp949", "안녕하세요"),
    ("cp949", "제품소개"),
    ("gbk", "会议"),
    ("gbk", "会议录像"),
    ("gbk", "测试"),
    ("cp950", "測試"),
    ("cp950", "影片"),
]


@pytest.mark.parametrize(("encoding", "name"), FOREIGN)
def test_names_in_another_8_bit_encoding_are_refused(encoding: str, name: str, tmp_path: Path) -> None:
    content = f"uri;language\r\ns3://b/a.mp4;en\r\ns3://b/{name}.mp4;\r\n".encode(encoding)
    manifest = read(tmp_path, "m.csv", content)
    assert manifest.submissions == []
    assert manifest.bad_rows in ([BadRow(3, NEITHER)], [BadRow(3, NOT_UTF_8)])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_refused_line_is_counted_at_any_line_end(end: str, tmp_path: Path) -> None:
    content = end.join(["uri;language", "s3://b/café.mp4;fr", "", "s3://b/q.mp4;"]).encode("cp1252")
    content += end.encode() + "привет.mp4".encode("cp1251")
    assert read(tmp_path, "m.csv", content).bad_rows == [BadRow(5, NEITHER)]


def test_the_advice_suits_the_format(tmp_path: Path) -> None:
    assert read(tmp_path, "m.csv", b"\xef\xbb\xbfuri\n\xfc.mp4\n").bad_rows == [BadRow(2, NOT_UTF_8)]
    assert read(tmp_path, "m.csv", "uri\nü.mp4\n".encode() + b"\xfc.mp4\n").bad_rows == [BadRow(3, NOT_UTF_8)]
    assert read(tmp_path, "m.jsonl", b'{"uri": "\xfc"}').bad_rows == [BadRow(1, "not UTF-8 text: save it as UTF-8")]
