"""``heimdex process`` and ``submit``: videos enqueued, and watched until all are done."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Annotated, Any
from uuid import UUID

import typer

from cluster.cli.submission_options import Again, enqueue, known_sentence, read_language, submissions_of
from cluster.cli.terminal import error_console, out, out_json, output_into, say
from cluster.cli.video_choice import batch_name
from cluster.contracts.batches import new_batch
from cluster.contracts.counts import counted, form
from cluster.contracts.uris import folder_without_videos
from cluster.contracts.videos import HIGHEST_PRIORITY, LOWEST_PRIORITY, Origin, Submission
from cluster.runtime import launch
from cluster.security.data_folder import prepare_data_folder
from cluster.security.private_files import open_log
from cluster.settings import Settings, load_settings
from cluster.store.postgres.connections import Pool, open_pool

Uris = Annotated[
    list[str], typer.Argument(help="Files, folders, globs, or file://, http(s)://, s3:// URIs.", show_default=False)
]
Language = Annotated[
    str | None,
    typer.Option(
        callback=read_language,
        metavar="CODE",
        help="Language of the speech (en, de, ...), of several sound tracks too; default: detected.",
    ),
]
Priority = Annotated[
    int,
    typer.Option(
        min=LOWEST_PRIORITY, max=HIGHEST_PRIORITY, help="Each step counts as ten minutes of waiting among your videos."
    ),
]
BatchName = Annotated[
    str | None,
    typer.Option(
        "--batch", metavar="NAME", parser=batch_name, help="Name of the batch that they belong to; default: a new one."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON array on standard output.")]


def process(
    uris: Uris,
    language: Language = None,
    priority: Priority = 0,
    batch: BatchName = None,
    again: Again = False,
    as_json: AsJson = False,
) -> None:
    """Submit videos and watch them until all are READY or FAILED. Exit status 0: all are READY.

    Uses the cluster that is up; when none is, brings one up and takes it down again.
    """
    from cluster.cli.report import print_failures, print_summary, print_warnings
    from cluster.cli.submitted import print_submitted
    from cluster.cli.watch import watch
    from cluster.files.storage import expand
    from cluster.runtime.caretaker import Caretaker
    from cluster.store.videos.progress import read_results

    _refuse_bare_folders(uris)
    settings = load_settings()
    submissions, batch = submissions_of(expand(uris), language, priority), batch or new_batch()
    with _running_cluster(settings) as (url, owned), open_pool(url, max_size=2, name="heimdex-process") as pool:
        submitted = enqueue(pool, settings, submissions, Origin.COMMAND, batch=batch, again=again)
        ids = list(dict.fromkeys(submitted.ids))
        if submitted.known:
            say(known_sentence(submitted))
        caretaker = Caretaker(settings, pool, owned, say)
        try:
            watch(pool, ids, error_console(), caretaker.look)
        except KeyboardInterrupt:
            say(_interrupted(pool, ids, batch))
            raise typer.Exit(130) from None
        results = read_results(pool, ids)
    if as_json:
        out_json(results)
    else:
        print_summary(results)
        print_submitted(submitted, [submission.uri for submission in submissions], batch)
    print_warnings(results)
    print_failures(results)
    if any(result["status"] != "READY" for result in results):
        raise typer.Exit(1)


def submit(
    uris: Annotated[list[str] | None, typer.Argument(help="As for `process`.", show_default=False)] = None,
    manifest: Annotated[
        str | None, typer.Option(help="csv, jsonl, JSON array or parquet with the columns uri and language.")
    ] = None,
    language: Language = None,
    priority: Priority = 0,
    batch: BatchName = None,
    again: Again = False,
    as_json: AsJson = False,
) -> None:
    """Enqueue videos and return at once. Bad manifest rows are named; the others go in."""
    from cluster.cli.report import print_bad_rows
    from cluster.cli.submitted import print_submitted
    from cluster.files.storage import expand
    from cluster.store.videos.progress import read_results

    if (manifest is None) == (not uris):
        raise typer.BadParameter("give either URIs or --manifest")
    _refuse_bare_folders(uris or [])
    settings = load_settings()
    submissions: Sequence[Submission] = submissions_of(expand(uris or []), language, priority)
    batch = batch or new_batch()
    bad_rows: Sequence[Any] = []
    if manifest is not None:
        rows = _read_manifest(settings, manifest)
        submissions, bad_rows = rows.submissions, rows.bad_rows
    with launch.open_database(settings) as url, open_pool(url, max_size=2, name="heimdex-submit") as pool:
        origin = Origin.COMMAND if manifest is None else Origin.MANIFEST
        submitted = enqueue(pool, settings, submissions, origin, batch=batch, again=again)
        results = read_results(pool, submitted.ids) if as_json else []
    if as_json:
        out_json(results)
    else:
        new = counted(submitted.new, "video")
        out(f"submitted {new}" + ("" if launch.find(settings) else "; `heimdex up` processes them"))
        print_submitted(submitted, [submission.uri for submission in submissions], batch)
    if submitted.known:
        say(known_sentence(submitted))
    print_bad_rows(manifest or "", bad_rows)
    if bad_rows:
        raise typer.Exit(1)


def _refuse_bare_folders(uris: Sequence[str]) -> None:
    """Where there is nothing but folders without videos, no cluster is brought up to say so."""
    sentences = [folder_without_videos(uri) for uri in uris]
    if sentences and all(sentences):
        for sentence in sentences:
            say(f"error: {sentence}")
        raise typer.Exit(2)


def _read_manifest(settings: Settings, manifest: str) -> Any:
    from cluster.files.manifest import needs_ray, read_manifest

    if not needs_ray(manifest):
        return read_manifest(manifest)
    from cluster.runtime.ray_driver import connected, ray_of_this_process

    state = launch.find(settings)
    prepare_data_folder(settings.data_dir)
    ray = ray_of_this_process() if state is None else connected(launch.ray_of(state))
    with open_log(settings.data_dir / "logs" / "manifest.log") as log, output_into(log), ray:
        return read_manifest(manifest)


@contextlib.contextmanager
def _running_cluster(settings: Settings) -> Iterator[tuple[str, bool]]:
    """The database URL of a cluster that processes: the one that is up, or (True) one only for this command."""
    urls = launch.database_urls(settings)
    if urls is not None and launch.is_scheduling(settings, urls):
        yield urls.worker, False
        return
    say("no cluster is up: bringing one up for this command")
    state = launch.up(settings, say)
    try:
        yield state.database_url, True
    finally:
        launch.down(settings, say)


def _interrupted(pool: Pool, ids: Sequence[UUID], batch: str) -> str:
    from cluster.store.videos.progress import read_standings

    left = sum(1 for standing in read_standings(pool, ids) if not standing.settled)
    return (
        f"Interrupted. {len(ids) - left} of {counted(len(ids), 'video')} {form(len(ids) - left, 'is', 'are')} done; "
        f"{left} {form(left, 'stays submitted and goes', 'stay submitted and go')} on in the cluster "
        f'that is up, or after `heimdex up`. `heimdex watch --batch "{batch}"` shows them.'
    )
