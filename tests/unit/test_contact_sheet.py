"""The contact sheet: every scene with its picture, its words and why it was found; nothing of it is markup."""

from pathlib import Path
from uuid import UUID

from PIL import Image

from cluster.cli.contact_sheet import contact_sheet
from cluster.contracts.search import Retriever
from cluster.files.scene_pictures import ScenePictures
from cluster.search.fusion import FusedScene
from cluster.search.service import SceneHit, SearchResults
from cluster.store.search.hits import SceneRow

VIDEO = UUID(int=2)


def hit(said: str, thumbnail_url: str | None, marks: tuple[tuple[int, int], ...] = ()) -> SceneHit:
    ids = UUID(int=1), VIDEO
    scene = SceneRow(*ids, "a<b>.mp4", "file:///a.mp4", 0, 61.0, 62.5, said, ["sea", "sky"], thumbnail_url, marks)
    return SceneHit(scene, FusedScene(ids[0], {Retriever.WORDS: 2, Retriever.PICTURE: 7}, {}, 0.1, True))


def test_found_scene_shows_picture_words_and_ranks(tmp_path: Path) -> None:
    picture = tmp_path / str(VIDEO) / "00000.jpg"
    picture.parent.mkdir()
    Image.new("RGB", (32, 18), (255, 0, 0)).save(picture)
    page = contact_sheet(
        SearchResults("tide & moon", [hit("low <tide> now", picture.as_uri(), ((4, 10),))], 3),
        ScenePictures(str(tmp_path)),
    )
    assert "<h1>“tide &amp; moon”: 1 scene; no clear match, these are only the nearest</h1>" in page
    assert "low <mark>&lt;tide&gt;</mark> now" in page
    assert "a&lt;b&gt;.mp4" in page
    assert "1:01.0–1:02.5" in page
    assert "sea, sky · words 2, picture 7" in page
    assert "data:image/jpeg;base64,/9j/" in page


def test_clear_match_needs_no_warning(tmp_path: Path) -> None:
    found = SearchResults("tide", [hit("low tide", None)], 3, stands_out=True)
    assert "<h1>“tide”: 1 scene</h1>" in contact_sheet(found, ScenePictures(str(tmp_path)))


def test_a_picture_that_is_stored_elsewhere_is_not_opened(tmp_path: Path) -> None:
    (secret := tmp_path / "secret.jpg").write_bytes(b"a secret")
    page = contact_sheet(SearchResults("x", [hit("", secret.as_uri())], 3), ScenePictures(str(tmp_path / "scenes")))
    assert "the picture is stored elsewhere" in page
    assert "data:image" not in page


def test_a_picture_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    pictures = ScenePictures(str(tmp_path))
    gone = hit("", f"file://{tmp_path}/{VIDEO}/gone.jpg")
    page = contact_sheet(SearchResults("", [hit("", None), gone], 3, corrected="x"), pictures)
    assert page.count('<div class="none">') == 2
    assert "Scenes like the picture: 2 scenes, searched as “x”" in page
    assert "Nothing was found." in contact_sheet(SearchResults("x", [], 3), pictures)
