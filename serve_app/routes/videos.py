"""A user's own videos and their scenes. Another user's are as if they did not exist."""

from typing import Annotated, Any
from uuid import UUID, uuid5

from fastapi import Body, Header, Path, Query, Response
from pydantic import Discriminator, Field, Tag, TypeAdapter

from cluster.contracts.audit import Actor, owner
from cluster.contracts.errors import InvalidVideo, RefusedByDatabase, SubmissionChanged, TooManySubmissions
from cluster.contracts.uri_prefixes import HttpRules
from cluster.contracts.uris import check_remote, scheme_of
from cluster.contracts.videos import Origin, Submission, VideoStatus
from cluster.store.queue.reprocessing import reprocess, retry
from cluster.store.queue.stage_runs import latest_runs
from cluster.store.queue.submissions import cancel, submit
from cluster.store.videos.deletion import forget
from cluster.store.videos.videos import list_videos, opened_video
from serve_app.error_responses import BadRequest, Conflict, NotFound, RateLimited
from serve_app.guards import CurrentUser
from serve_app.json_answers import items_of, json_answer, write_in_pieces
from serve_app.parts import ApiParts, Page, PageSize, Parts
from serve_app.schemas.strict_values import Id, few_mistakes
from serve_app.schemas.videos import AcceptedVideos, Reprocessing, Scene, Video, VideoDetail, VideosPage

MAX_SUBMISSIONS = 1000
_SCENES = TypeAdapter(list[Scene])


def _one_or_many(body: Any) -> str:
    return "many" if isinstance(body, list) else "one"


Submissions = Annotated[
    Annotated[Submission, Tag("one")]
    | Annotated[
        list[Submission],
        Field(min_length=1, max_length=MAX_SUBMISSIONS),
        few_mistakes(Submission, MAX_SUBMISSIONS),
        Tag("many"),
    ],
    Discriminator(_one_or_many),
    Body(
        description=f"One video, or a list of up to {MAX_SUBMISSIONS}.",
        openapi_examples={
            "one": {"value": {"uri": "https://example.org/talk.mp4", "language": "en", "priority": 0}},
            "many": {"value": [{"uri": "https://example.org/a.mp4"}, {"uri": "https://example.org/b.mp4"}]},
        },
    ),
]


IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern="^[!-~]([ -~]*[!-~])?$",
        description="A name of one's own for this submission: sent again, it enqueues nothing twice.",
    ),
]
VideoId = Annotated[Id, Path(description="The video's id.")]


def submit_videos(
    body: Submissions, user_id: CurrentUser, parts: Parts, idempotency_key: IdempotencyKey = None
) -> AcceptedVideos:
    """Enqueue one video or many; they belong to the token's user. All are accepted, or none."""
    submissions = body if isinstance(body, list) else [body]
    for number, submission in enumerate(submissions):
        place = f"{number}.uri" if isinstance(body, list) else "uri"
        _check_uri(submission.uri, place, user_id, parts.http_rules)
    most = parts.limits.submissions_per_minute
    if len(submissions) > most:
        raise BadRequest(f"{len(submissions)} videos at once are more than may be submitted within a minute ({most}).")
    ids = None
    if idempotency_key is not None:
        ids = [uuid5(user_id, f"{position}:{idempotency_key}") for position in range(len(submissions))]
    try:
        limits = parts.submission_limits
        return AcceptedVideos(ids=submit(parts.pool, user_id, submissions, ids, limits=limits, origin=Origin.HTTP))
    except SubmissionChanged:
        raise Conflict("This Idempotency-Key was used for another submission; choose a new one.") from None
    except RefusedByDatabase as error:
        raise Conflict(f"Nothing was submitted: {error}.") from None
    except TooManySubmissions as error:
        raise _rate_limited(error) from None


def _check_uri(uri: str, place: str, user_id: UUID, rules: HttpRules) -> None:
    """Refuse what a user from afar must not make this server read: its own files, others' objects in its stores."""
    refusal = rules.refusal(uri, user_id)
    if refusal is not None:
        raise BadRequest(f"{place}: {refusal}")
    if scheme_of(uri) != "file":
        try:
            check_remote(uri)
        except InvalidVideo as error:
            raise BadRequest(f"{place}: {error}") from None


def list_own_videos(
    user_id: CurrentUser,
    parts: Parts,
    status: Annotated[VideoStatus | None, Query(description="Only videos in this state.")] = None,
    page: Page = 1,
    page_size: PageSize = 50,
) -> VideosPage:
    """The user's videos, latest first."""
    items, total = list_videos(parts.pool, user_id, status, page_size, (page - 1) * page_size)
    return VideosPage.model_validate({"items": items, "page": page, "page_size": page_size, "total_videos": total})


def read_own_video(video_id: VideoId, user_id: CurrentUser, parts: Parts) -> Response:
    """One of the user's videos, with the stages of its latest attempt and its scenes."""
    with opened_video(parts.pool, user_id, video_id) as (video, batches):
        if video is None:
            raise _no_such_video()
        scenes = [items_of(_SCENES, batch) for batch in batches]
    stages = latest_runs(parts.pool, [video_id], user_id)[video_id]
    detail = VideoDetail.model_validate({**video, "stages": stages, "scenes": []}, from_attributes=True)
    return json_answer(write_in_pieces(detail, "scenes", scenes))


def cancel_own_video(video_id: VideoId, user_id: CurrentUser, parts: Parts) -> Video:
    """Cancel a video that waits or is on its way; one that is CANCELLED stays so. An attempt that runs is stopped."""
    cancel(parts.pool, [video_id], user_id, _owner(parts, user_id))
    video = _own_video(parts, user_id, video_id)
    if video["status"] != VideoStatus.CANCELLED:
        raise Conflict(f"The video is {video['status']}: only what waits or is worked on here can be cancelled.")
    return Video.model_validate(video)


def retry_own_video(video_id: VideoId, user_id: CurrentUser, parts: Parts) -> Video:
    """Let a FAILED or CANCELLED video be tried again, with all its attempts before it. Counts as a submission."""
    try:
        retried = retry(parts.pool, [video_id], owner_id=user_id, by=_owner(parts, user_id))
    except TooManySubmissions as error:
        raise _rate_limited(error) from None
    video = _own_video(parts, user_id, video_id)
    if not retried:
        raise Conflict(f"The video is {video['status']}: only what is FAILED or CANCELLED can be tried again.")
    return Video.model_validate(video)


def reprocess_own_video(
    video_id: VideoId, user_id: CurrentUser, parts: Parts, body: Reprocessing | None = None
) -> Video:
    """Process a video again that is READY, FAILED or CANCELLED, from the beginning, perhaps in another language.

    Its scenes stay searchable until the new ones take their place, all at once. Counts as a submission.
    """
    language = body.language if body is not None else None
    by = _owner(parts, user_id)
    try:
        waiting = reprocess(parts.pool, [video_id], owner_id=user_id, language=language, by=by)
    except TooManySubmissions as error:
        raise _rate_limited(error) from None
    video = _own_video(parts, user_id, video_id)
    if not waiting:
        raise Conflict(f"The video is {video['status']}: only what has ended can be processed again.")
    return Video.model_validate(video)


def forget_own_video(video_id: VideoId, user_id: CurrentUser, parts: Parts) -> None:
    """Delete all that was found in a video: scenes, words, pictures. Work on it stops; the metrics keep its counts.

    The pictures are removed within seconds, by the scheduler. The video file itself stays where it is.
    """
    if not forget(parts.pool, [video_id], user_id, by=_owner(parts, user_id)):
        video = _own_video(parts, user_id, video_id)
        raise Conflict(f"The video is {video['status']} in another system: it cannot be forgotten here.")


def _owner(parts: ApiParts, user_id: UUID) -> Actor:
    return owner(user_id, parts.submission_limits)


def _rate_limited(error: TooManySubmissions) -> RateLimited:
    sentence = str(error)
    return RateLimited(f"{sentence[0].upper()}{sentence[1:]}.", error.retry_after_s)


def _own_video(parts: ApiParts, user_id: UUID, video_id: UUID) -> dict[str, Any]:
    with opened_video(parts.pool, user_id, video_id) as (video, _):
        if video is None:
            raise _no_such_video()
    return video


def _no_such_video() -> NotFound:
    return NotFound("There is no such video.")
