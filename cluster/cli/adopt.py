"""Makes an existing Heimdex database usable: migrations, finish times, words, key frames, vectors.

Owns the order of the steps and what is reported of them. Each step does only what is left to do, so that a run which
was interrupted goes on with the next, and a run with nothing left changes nothing.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from uuid import UUID

from cluster.cli.thumbnails import Thumbnails
from cluster.contracts.counts import counted
from cluster.contracts.errors import ConfigurationError, HeimdexError, RefusedByDatabase, SourceBusy
from cluster.contracts.uris import shown
from cluster.contracts.videos import MAX_URI
from cluster.files.fetch_limits import fetch_limits
from cluster.files.scene_pictures import ScenePictures
from cluster.files.storage import FetchLimits, check_stored
from cluster.files.storage_root import is_in_own_folder, is_of_another_owner, is_relative
from cluster.reembed.run import Outcome, ReembedRequest, reembed
from cluster.settings import Settings
from cluster.store.index.embeddings import SceneVectors
from cluster.store.index.model_registry import SearchModels
from cluster.store.opensearch.verify import Kind, Progress, Verdict
from cluster.store.postgres.admin_functions import replaced_functions, restore_functions
from cluster.store.postgres.backfill import backfill_finish_times
from cluster.store.postgres.connections import Pool, open_pool
from cluster.store.postgres.migrations import apply_migrations, pending_migrations
from cluster.store.postgres.roles import restore_rights
from cluster.store.postgres.row_security import refuse_hidden_rows
from cluster.store.queue.reprocessing import LeftVideo, left_videos, take_over
from cluster.store.search.postgres_check import PostgresCheck
from cluster.store.videos.adoption import Adoption, Inventory

PAGE = 200
SAY_EVERY_S = 5.0
STATEMENT_TIMEOUT_S = 3600.0
EXAMPLES = 5
_FIRST = UUID(int=0)

Say = Callable[[str], None]
OpenRay = Callable[[], AbstractContextManager[None]]


@dataclass
class Report:
    """What was there, what was made, and what could not be; ``dry``: what would be made."""

    dry: bool
    inventory: Inventory | None = None
    migrations: int = 0
    restored: int = 0
    """Functions of the migrations that others had replaced."""
    backfilled: int = 0
    indexed: int = 0
    words: int = 0
    key_frames: int = 0
    unreadable: Counter[str] = field(default_factory=Counter)
    embedded: int = 0
    failed: dict[UUID, str] = field(default_factory=dict)
    lacking: int = 0
    without_picture: int = 0
    without_text: int = 0
    left: int = 0
    untried: int = 0
    """Thumbnails of scenes without a key frame, in a dry run."""

    @property
    def changes(self) -> int:
        """How much was made, of all kinds."""
        made = (self.migrations, self.restored, self.backfilled, self.indexed, self.words)
        return sum(made) + self.key_frames + self.embedded


@dataclass
class TakenOver:
    """Videos that were queued, or would be, and those that were not, by the reason."""

    queued: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def note_refused(self, video: LeftVideo, reason: str, detail: str) -> None:
        """This one stays as it is: why in general, and in particular."""
        self.refused[reason] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{video.id}: {detail}")


def adopt(settings: Settings, url: str, open_ray: OpenRay, say: Say) -> Report:
    """Take every step that is left.

    Raises:
        ConfigurationError: a step cannot be taken; the sentence says what is missing.
        DatabaseUnavailable: Postgres is away; the same command goes on from here.
    """
    report = Report(dry=False)
    refuse_hidden_rows(url)
    say("applying migrations")
    report.migrations = len(apply_migrations(url))
    report.restored = len(restore_functions(url))
    restore_rights(url)
    with _pool(url) as pool:
        adoption = Adoption(pool)
        report.inventory = adoption.inventory()
        say("setting finish times")
        report.backfilled = backfill_finish_times(pool, dry_run=False)
        _index_words(PostgresCheck(pool, url), report, say)
        adoption.add_to_outbox()
        _copy_thumbnails(adoption, settings, report, say)
        say("embedding what lacks vectors")
        outcome = reembed(settings, url, ReembedRequest(), open_ray, say)
        _note_vectors(report, outcome)
        report.without_picture, report.without_text = adoption.not_embeddable()
        report.left = _count_left(pool)
    return report


def look(url: str) -> Report:
    """What :func:`adopt` would find and do, as far as it can be counted; changes nothing."""
    refuse_hidden_rows(url)
    report = Report(dry=True, migrations=len(pending_migrations(url)))
    with _pool(url) as pool:
        report.inventory = inventory = Adoption(pool).inventory()
        report.without_text = inventory.scenes_without_text
        report.without_picture = inventory.scenes_without_picture
        if report.migrations:
            report.backfilled = _count_unfinished(pool, inventory)
            report.indexed = inventory.scenes
            report.embedded = inventory.scenes - inventory.scenes_without_text
            report.untried = inventory.scenes - inventory.scenes_without_picture
            report.left = inventory.pending
            return report
        report.embedded = _count_lacking(pool, inventory)
        report.untried = _count_untried(Adoption(pool))
        report.backfilled = backfill_finish_times(pool, dry_run=True)
        _note_words(PostgresCheck(pool, url).verify(), report)
        report.restored = len(replaced_functions(url))
        report.left = _count_left(pool)
    return report


def take_over_left(settings: Settings, url: str, *, failed: bool, dry: bool, say: Say) -> TakenOver:
    """Queue what an existing Heimdex left PENDING, with ``failed`` also FAILED, where its file is in the storage root.

    Raises:
        ConfigurationError: no storage root is set, or the database is not migrated.
    """
    limits = fetch_limits(settings)
    if limits.storage_root is None:
        raise ConfigurationError("HEIMDEX_STORAGE_ROOT is not set: it says where the files of the videos are")
    if pending_migrations(url):
        raise ConfigurationError("the database lacks migrations: run `heimdex adopt` first")
    statuses = ["PENDING", "FAILED"] if failed else ["PENDING"]
    taken = TakenOver()
    with _pool(url) as pool:
        for page in _left_pages(pool, statuses):
            reasons = {video.id: _refusal(video, limits) for video in page}
            good = [video for video in page if reasons[video.id] is None]
            if dry:
                taken.queued += len(good)
            elif good:
                _take_over(pool, good, statuses, taken)
            for video in page:
                reason = reasons[video.id]
                if reason is not None:
                    taken.note_refused(video, *reason)
            say(f"{counted(taken.queued, 'video')} queued, {taken.refused.total()} left as they are")
    return taken


def _take_over(pool: Pool, videos: Sequence[LeftVideo], statuses: Sequence[str], taken: TakenOver) -> None:
    """Queue the videos, one by one where the database refuses one of them."""
    try:
        taken.queued += len(take_over(pool, videos, statuses))
    except RefusedByDatabase as error:
        if len(videos) == 1:
            taken.note_refused(videos[0], "the database refuses it", str(error))
        else:
            for video in videos:
                _take_over(pool, [video], statuses, taken)


def _refusal(video: LeftVideo, limits: FetchLimits) -> tuple[str, str] | None:
    """Why a video is not taken over, in general and in particular."""
    if len(video.path) > MAX_URI:
        return "its storage path is too long", f"{shown(video.path)[:100]}... is longer than {MAX_URI} characters"
    if not is_relative(video.path):
        return "its storage path is not relative", "its storage path is not relative to the storage root"
    if is_of_another_owner(video.path, video.owner_id):
        return "its file is in another owner's folder", f"{shown(video.path)} is in another owner's folder"
    if not is_in_own_folder(video.path, video.owner_id):
        return "its file is in no folder of its owner", f"{shown(video.path)} is in no folder of its owner"
    try:
        check_stored(video.path, limits)
    except ConfigurationError:
        raise
    except SourceBusy:
        return None  # it is there; the video waits for it like any other
    except HeimdexError as error:
        return "its file cannot be read", str(error)
    return None


def _pool(url: str) -> Pool:
    return open_pool(url, max_size=4, name="heimdex-adopt", statement_timeout_s=STATEMENT_TIMEOUT_S)


def _index_words(check: PostgresCheck, report: Report, say: Say) -> None:
    say("comparing the text index and the vocabulary with the scenes")
    _note_words(check.verify(_scenes_of(report, say, "compared")), report)
    if report.indexed or report.words:
        say("indexing words")
        check.repair(_scenes_of(report, say, "indexed"))


def _note_words(verdict: Verdict, report: Report) -> None:
    report.words = verdict.words
    report.indexed = verdict.differences - verdict.counts[Kind.STALE_MODEL] - verdict.words


def _scenes_of(report: Report, say: Say, what: str) -> Progress:
    """Says every few seconds how many of all scenes are done."""
    assert report.inventory is not None
    scenes, said_s = report.inventory.scenes, time.monotonic()

    def tell(done: int) -> None:
        nonlocal said_s
        if time.monotonic() - said_s >= SAY_EVERY_S:
            said_s = time.monotonic()
            say(f"{done} of {counted(scenes, 'scene')} {what}")

    return tell


def _copy_thumbnails(adoption: Adoption, settings: Settings, report: Report, say: Say) -> None:
    thumbnails = Thumbnails(ScenePictures(settings.resolved_scenes_url), fetch_limits(settings))
    after = _FIRST
    while page := adoption.unshown(after, PAGE):
        after = page[-1].id
        copies = thumbnails.copy(page)
        report.unreadable.update(copy.reason for copy in copies if copy.reason is not None)
        report.key_frames += adoption.set_key_frames(
            [(copy.scene_id, copy.url) for copy in copies if copy.url is not None]
        )
        say(f"{report.key_frames} thumbnails copied, {report.unreadable.total()} cannot be read")


def _note_vectors(report: Report, outcome: Outcome) -> None:
    report.embedded, report.failed, report.lacking = outcome.embedded, outcome.failures, outcome.lacking


def _count_lacking(pool: Pool, inventory: Inventory) -> int:
    """Scenes that lack vectors of the active models; before there are any, all with a text."""
    active = SearchModels(pool).active()
    if not active:
        return inventory.scenes - inventory.scenes_without_text
    return SceneVectors(pool, {by: model.key for by, model in active.items()}).count_lacking()


def _count_unfinished(pool: Pool, inventory: Inventory) -> int:
    """Videos without a finish time; all that have ended where the timing columns are still missing."""
    try:
        return backfill_finish_times(pool, dry_run=True)
    except ConfigurationError:
        return inventory.ready + inventory.failed


def _count_untried(adoption: Adoption) -> int:
    count, after = 0, _FIRST
    while page := adoption.unshown(after, PAGE):
        count, after = count + len(page), page[-1].id
    return count


def _count_left(pool: Pool) -> int:
    return sum(len(page) for page in _left_pages(pool, ["PENDING"]))


def _left_pages(pool: Pool, statuses: Sequence[str]) -> Iterator[list[LeftVideo]]:
    after = _FIRST
    while page := left_videos(pool, statuses, after, PAGE):
        yield page
        after = page[-1].id
