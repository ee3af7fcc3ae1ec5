"""The whole route table of the HTTP application, each route with what its description cannot be read from.

Owns which function answers where, for whom, and with which errors. Leaves the guards to ``guards``, what an error looks
like to ``error_responses``, and the application around the table to ``app``.
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

from serve_app.guards import BulkRoute, UserRoute
from serve_app.routes import admin, embedding_jobs, health, quarantine, search, transcripts, videos
from serve_app.schemas.search import FoundScenes, SimilarScenes
from serve_app.schemas.videos import VideoDetail

_RETURNED: Any = object()


@dataclass(frozen=True)
class Endpoint:
    """A route.

    ``errors``: statuses of its errors beside those that all routes of its kind have. ``model``: the schema of its
    answer, where the function writes the answer itself; None for an answer that is not JSON. ``responses`` and
    ``request_body``: further parts of its OpenAPI description. ``route_class``: its guard, where that is not the usual
    one of its kind.
    """

    method: str
    path: str
    function: Callable[..., Any]
    status: int = 200
    errors: AbstractSet[int] = frozenset()
    model: Any = _RETURNED
    responses: Mapping[int | str, dict[str, Any]] = field(default_factory=dict)
    request_body: dict[str, Any] | None = None
    route_class: type[UserRoute] | None = None

    @property
    def response_model(self) -> Any:
        """The schema of the answer; by default what the function returns."""
        return signature(self.function).return_annotation if self.model is _RETURNED else self.model


ADMIN_ROUTES = [
    Endpoint("GET", "/v1/admin/overview", admin.overview),
    Endpoint("GET", "/v1/admin/timeseries/throughput", admin.throughput),
    Endpoint("GET", "/v1/admin/timeseries/throughput-v2", admin.precise_throughput),
    Endpoint("GET", "/v1/admin/timeseries/search", admin.searches),
    Endpoint("GET", "/v1/admin/users", admin.users),
    Endpoint("GET", "/v1/admin/users/{user_id}", admin.user_detail, errors={404}),
    Endpoint("GET", "/v1/admin/performance/latency", admin.processing_latency),
    Endpoint("GET", "/v1/admin/performance/rtf", admin.rtf_distribution),
    Endpoint("GET", "/v1/admin/performance/queue", admin.queue_analysis),
    Endpoint("GET", "/v1/admin/failures/by-stage", admin.failures_by_stage),
    Endpoint("GET", "/v1/admin/failures/quarantine", quarantine.list_quarantine),
    Endpoint("POST", "/v1/admin/failures/retry", quarantine.retry_videos, errors={409, 415}),
    Endpoint("POST", "/v1/admin/videos/cancel", quarantine.cancel_videos, errors={409, 415}),
    Endpoint("POST", "/v1/admin/reprocess-embeddings", embedding_jobs.start_embedding, 202, {409}),
    Endpoint("GET", "/v1/admin/reprocess-embeddings", embedding_jobs.read_latest_embedding),
    Endpoint("GET", "/v1/admin/reprocess-embeddings/{job_id}", embedding_jobs.read_embedding, errors={404}),
]
USER_ROUTES = [
    Endpoint("POST", "/v1/videos", videos.submit_videos, 202, {409, 415}, route_class=BulkRoute),
    Endpoint("GET", "/v1/videos", videos.list_own_videos),
    Endpoint("GET", "/v1/videos/{video_id}", videos.read_own_video, errors={404}, model=VideoDetail),
    Endpoint(
        "GET",
        "/v1/videos/{video_id}/transcript",
        transcripts.read_own_transcript,
        errors={404},
        model=None,
        responses=transcripts.DESCRIPTION,
    ),
    Endpoint("DELETE", "/v1/videos/{video_id}", videos.forget_own_video, 204, {404, 409}),
    Endpoint("POST", "/v1/videos/{video_id}/cancel", videos.cancel_own_video, errors={404, 409}),
    Endpoint("POST", "/v1/videos/{video_id}/retry", videos.retry_own_video, errors={404, 409, 429}),
    Endpoint("POST", "/v1/videos/{video_id}/reprocess", videos.reprocess_own_video, errors={404, 409, 415, 429}),
    Endpoint("GET", "/v1/search", search.search_own_scenes, errors={404}, model=FoundScenes),
    Endpoint(
        "POST",
        "/v1/search/image",
        search.search_by_picture,
        errors={404},
        model=FoundScenes,
        request_body=search.PICTURE_BODY,
    ),
    Endpoint("GET", "/v1/scenes/{scene_id}/similar", search.similar_scenes, errors={404}, model=SimilarScenes),
]
OPEN_ROUTES = [
    Endpoint("GET", "/healthz", health.alive),
    Endpoint("GET", "/readyz", health.ready, responses=health.DESCRIPTION),
    Endpoint("GET", "/health", health.alive),
    Endpoint("GET", "/health/ready", health.ready, responses=health.DESCRIPTION),
]
