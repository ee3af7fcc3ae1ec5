"""``/docs``: the interactive documentation, from files that are served here. The page asks no other host for anything.

The files are Swagger UI's own (Apache-2.0), as a package brings them. What the document says is ``api_document``'s.
"""

from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from starlette.requests import Request
from starlette.responses import Response

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Scripts and styles are files of ours; Swagger UI draws its icons from ``data:`` URLs."""


def _package_files() -> Path:
    """Where the package that brings Swagger UI keeps it. None of its code runs."""
    spec = find_spec("fastapi_swagger")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "resources"


_SWAGGER = _package_files()
_OURS = Path(__file__).parents[1] / "documentation_files"
FILES = {
    "swagger-ui-bundle.js": (_SWAGGER / "swagger-ui-bundle.js", "text/javascript"),
    "swagger-ui.css": (_SWAGGER / "swagger-ui.css", "text/css"),
    "favicon.svg": (_OURS / "favicon.svg", "image/svg+xml"),
    "start.js": (_OURS / "start.js", "text/javascript"),
}
"""Files that the page loads, by their names below ``/docs/``."""
_PAGE = (_OURS / "page.html").read_text(encoding="utf-8")


def add_documentation(api: FastAPI) -> None:
    """Add the page, its files, and the way to it from the root. Addresses are relative: a proxy may add a prefix."""
    api.add_route("/", _to_page, include_in_schema=False)
    api.add_route("/docs", _page, include_in_schema=False)
    api.add_route("/docs/{name}", _file, include_in_schema=False)


async def _to_page(_request: Request) -> Response:
    return RedirectResponse("docs")


async def _page(_request: Request) -> Response:
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": PAGE_POLICY})


async def _file(request: Request) -> Response:
    found = FILES.get(request.path_params["name"])
    if found is None:
        raise HTTPException(404)
    path, media_type = found
    return FileResponse(path, media_type=media_type, headers={"Cache-Control": "max-age=3600"})
