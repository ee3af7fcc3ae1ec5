"""What admins do about videos that failed or are not wanted: look at them, let them be tried again, cancel them."""

from typing import Annotated

from fastapi import Query

from cluster.contracts.audit import admin
from cluster.contracts.stages import Stage
from cluster.store.queue.failures import FailureFilter
from cluster.store.queue.reprocessing import retry
from cluster.store.queue.submissions import cancel, quarantine
from serve_app.guards import CurrentUser
from serve_app.parts import Page, PageSize, Parts
from serve_app.schemas.videos import Cancelled, Choice, ChosenVideos, Quarantine, Retried


def list_quarantine(
    parts: Parts,
    stage: Annotated[Stage | None, Query(description="Only videos that failed in this stage.")] = None,
    page: Page = 1,
    page_size: PageSize = 50,
) -> Quarantine:
    """All owners' videos that FAILED, latest first, and why."""
    videos, total = quarantine(parts.pool, page_size, (page - 1) * page_size, stage=stage)
    items = [vars(video) for video in videos]
    return Quarantine.model_validate({"items": items, "page": page, "page_size": page_size, "total_videos": total})


def retry_videos(user_id: CurrentUser, parts: Parts, body: Choice) -> Retried:
    """Let FAILED videos be tried again, with all their attempts before them; by their ids, CANCELLED ones too.

    Without ids, those that can never succeed (`InvalidVideo`) are left out.
    """
    failures = FailureFilter(stage=body.stage)
    return Retried(retried=len(retry(parts.pool, body.ids, failures=failures, by=admin(user_id))))


def cancel_videos(body: ChosenVideos, user_id: CurrentUser, parts: Parts) -> Cancelled:
    """Cancel videos of any owner that wait or are on their way."""
    return Cancelled(cancelled=cancel(parts.pool, body.ids, by=admin(user_id)))
