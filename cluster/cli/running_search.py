"""Asks the cluster that is up, over HTTP: its models are loaded already, so an answer takes milliseconds.

What is asked, and what is shown of the answer, is ``search_command``'s.
"""

import json
from collections.abc import Mapping
from datetime import timedelta
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import UUID

from cluster import __version__
from cluster.cli.terminal import say
from cluster.contracts.channels import is_protected
from cluster.contracts.database_url import without_password
from cluster.contracts.errors import SearchRefused, SearchTooSlow
from cluster.contracts.search import Retriever
from cluster.runtime import launch
from cluster.search.fusion import FusedScene
from cluster.search.service import SceneHit, SearchRequest, SearchResults
from cluster.settings import Settings
from cluster.store.search.hits import SceneRow

TOKEN_LIFETIME_S = 60.0
"""For one request."""
MORE_S = 5.0
"""Time that an answer may take beyond what the server allows itself."""
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where a server that listens on every address is found on this machine."""


def ask_cluster(settings: Settings, request: SearchRequest, image: bytes | None) -> SearchResults | None:
    """What the cluster that is up answers; None when there is none that can be asked.

    ``image``: what the file of the picture holds, in place of ``request.picture``.

    Raises:
        SearchRefused: the question is not one that is answered.
        SearchTooSlow: the search was stopped at its time limit.
    """
    url = _url(settings)
    token = None if url is None else _token(settings, request.scope.owner_id)
    if url is None or token is None:
        return None
    try:
        status, answer = _answer(url, token, request, image, settings.request_timeout_s + MORE_S)
    except (OSError, HTTPException, ValueError) as error:
        say(f"the cluster that is up does not answer searches ({error}): the models are loaded here")
        return None
    detail = str(answer.get("detail"))
    if status == 200:
        return _results(answer)
    if status == 400 and image is not None:  # mostly no picture: the command can say of which file
        return None
    if status == 400:
        raise SearchRefused(detail)
    if status == 504:
        raise SearchTooSlow(detail)
    say(f"the cluster that is up does not answer this search ({status}: {detail}): the models are loaded here")
    return None


def _url(settings: Settings) -> str | None:
    """Where the cluster of these settings answers on this machine, if one of this version is up."""
    state = launch.find(settings)
    if state is None or state.version != __version__:
        return None
    database_url = launch.existing_database_url(settings)
    if database_url is None or without_password(database_url) != without_password(state.database_url):
        return None
    parts = urlsplit(state.http_url)
    host = _ANY_ADDRESS.get(parts.hostname or "", parts.hostname)
    url = f"http://{f'[{host}]' if host and ':' in host else host}:{parts.port}"
    return url if is_protected(url) else None


def _token(settings: Settings, owner_id: UUID) -> str | None:
    """A token that the cluster takes; None where it trusts only keys that are not here."""
    from serve_app.development_tokens import mint_token

    secret = settings.resolved_jwt_secret
    if secret is None:
        return None
    lifetime_s = min(TOKEN_LIFETIME_S, settings.jwt_max_lifetime_s or TOKEN_LIFETIME_S)
    return mint_token(secret, owner_id, timedelta(seconds=lifetime_s), settings.jwt_issuer)


def _answer(
    url: str, token: str, request: SearchRequest, image: bytes | None, timeout_s: float
) -> tuple[int, dict[str, Any]]:
    """The status and the JSON of the answer. No proxy is asked: the cluster is on this machine."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    headers = {"Authorization": f"Bearer {token}"}
    query = urlencode(_parameters(request), doseq=True)
    try:
        if image is None:
            connection.request("GET", f"/v1/search?{query}", headers=headers)
        else:
            headers["Content-Type"] = "application/octet-stream"  # the picture says itself what it is
            connection.request("POST", f"/v1/search/image?{query}", image, headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
    finally:
        connection.close()
    return response.status, answer if isinstance(answer, dict) else {}


def _parameters(request: SearchRequest) -> Mapping[str, object]:
    scope = request.scope
    return {
        **({"q": request.text} if request.text.strip() else {}),
        "by": ",".join(sorted(request.by)),
        "limit": request.limit,
        **({} if scope.since is None else {"since": scope.since.isoformat()}),
        "tag": list(scope.tags),
    }


def _results(answer: Mapping[str, Any]) -> SearchResults:
    return SearchResults(
        query=answer["query"],
        hits=[_hit(item) for item in answer["items"]],
        latency_ms=answer["latency_ms"],
        corrected=answer["corrected"],
        more=answer["next_cursor"] is not None,
        stands_out=answer["stands_out"],
    )


def _hit(item: Mapping[str, Any]) -> SceneHit:
    scene = SceneRow(
        scene_id=UUID(item["scene_id"]),
        video_id=UUID(item["video_id"]),
        filename=item["filename"],
        uri=item["uri"],
        index=item["scene_index"],
        start_s=item["start_s"],
        end_s=item["end_s"],
        transcript_segment=item["transcript_segment"],
        tags=item["tags"],
        thumbnail_url=item["thumbnail_url"],
        marks=tuple((mark["start"], mark["end"]) for mark in item["marks"]),
    )
    similarities = {by: item.get(f"{by}_similarity") for by in Retriever}
    match = FusedScene(
        scene_id=scene.scene_id,
        ranks={by: item[f"{by}_rank"] for by in Retriever if item[f"{by}_rank"] is not None},
        similarities={by: value for by, value in similarities.items() if value is not None},
        score=item["score"],
        stands_out=item["stands_out"],
    )
    return SceneHit(scene, match)
