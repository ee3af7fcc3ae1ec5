"""A page with the pictures of the scenes that were found, for people who would rather look than read."""

import base64
import tempfile
import webbrowser
from html import escape
from pathlib import Path

from cluster.contracts.counts import counted
from cluster.contracts.durations import time_code
from cluster.contracts.errors import InvalidVideo, TransientFailure
from cluster.files.scene_pictures import ScenePictures
from cluster.search.service import SceneHit, SearchResults
from cluster.store.search.hits import SceneRow

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }}
body {{ margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }}
h1 {{ font-size: 1.3rem; }}
main {{ display: grid; gap: 1.25rem; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); }}
figure {{ margin: 0; }}
img, .none {{ width: 100%; aspect-ratio: 16 / 9; object-fit: cover; border-radius: .4rem; background: #8884; }}
.none {{ display: grid; place-items: center; }}
figcaption p {{ margin: .3rem 0; }}
small {{ opacity: .75; }}
mark {{ border-radius: .2rem; padding: 0 .1rem; }}
</style></head><body><h1>{title}</h1><main>
{scenes}
</main></body></html>
"""

_SCENE = """<figure>{picture}<figcaption>
<p><strong>{number}. {filename}</strong> {start}–{end}</p><p>{said}</p><p><small>{seen}{by}</small></p>
</figcaption></figure>"""


def open_contact_sheet(results: SearchResults, pictures: ScenePictures) -> Path:
    """Write the page into a file of the temporary folder, and show it if there is a browser; returns its path."""
    with tempfile.NamedTemporaryFile("w", prefix="heimdex-search-", suffix=".html", delete=False) as file:
        file.write(contact_sheet(results, pictures))
    path = Path(file.name)
    webbrowser.open(path.as_uri())
    return path


def contact_sheet(results: SearchResults, pictures: ScenePictures) -> str:
    """The page as HTML, with the thumbnails in it: it can be sent to others as it is."""
    asked = f"“{results.query}”" if results.query else "Scenes like the picture"
    title = f"{asked}: {counted(len(results.hits), 'scene')}"
    if results.corrected is not None:
        title += f", searched as “{results.corrected}”"
    if results.hits and not results.stands_out:
        title += "; no clear match, these are only the nearest"
    scenes = "\n".join(_scene(number, hit, pictures) for number, hit in enumerate(results.hits, 1))
    return _PAGE.format(title=escape(title), scenes=scenes or "<p>Nothing was found.</p>")


def _scene(number: int, hit: SceneHit, pictures: ScenePictures) -> str:
    scene = hit.scene
    return _SCENE.format(
        picture=_picture(scene, pictures),
        number=number,
        filename=escape(scene.name),
        start=time_code(scene.start_s),
        end=time_code(scene.end_s),
        said=_said(scene.transcript_segment or "", scene.marks),
        seen=escape(", ".join(scene.tags)) + (" · " if scene.tags else ""),
        by=escape(hit.ranks_text),
    )


def _picture(scene: SceneRow, pictures: ScenePictures) -> str:
    if scene.thumbnail_url is None:
        return '<div class="none">no picture</div>'
    try:
        data = base64.b64encode(pictures.read(scene.thumbnail_url, scene.video_id)).decode()
    except InvalidVideo:
        return '<div class="none">the picture is stored elsewhere</div>'
    except TransientFailure:
        return '<div class="none">the picture is gone</div>'
    return f'<img alt="" src="data:image/jpeg;base64,{data}">'


def _said(text: str, marks: tuple[tuple[int, int], ...]) -> str:
    parts, last = [], 0
    for start, end in marks:
        parts += [escape(text[last:start]), "<mark>", escape(text[start:end]), "</mark>"]
        last = end
    return "".join([*parts, escape(text[last:])])
