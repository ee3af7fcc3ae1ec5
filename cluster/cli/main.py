"""``heimdex``: every command, each a few lines around the part that does the work.

Results go to standard output, progress and errors to standard error. An error that the cluster raises on purpose is
one line and exit status 2; no traceback reaches a user.
"""

import contextlib
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

import typer

from cluster import __version__
from cluster.cli import (
    adopt_command,
    audit_command,
    cluster_commands,
    db_command,
    forget_command,
    index_command,
    list_command,
    logs_command,
    queue_commands,
    reembed_command,
    search_command,
    status_command,
    tags_command,
    transcript_command,
    watch_command,
)
from cluster.cli.help_text import plain_command
from cluster.cli.submission_options import Again, enqueue, known_sentence, read_language, submissions_of
from cluster.cli.terminal import error_console, out, out_json, output_into, run, say
from cluster.cli.video_choice import batch_name
from cluster.contracts.batches import new_batch
from cluster.contracts.counts import counted, form
from cluster.contracts.uris import folder_without_videos
from cluster.contracts.videos import HIGHEST_PRIORITY, LOWEST_PRIORITY, Origin, Submission
from cluster.runtime import launch
from cluster.security.data_folder import prepare_data_folder
from cluster.security.private_files import open_log, set_private_umask
from cluster.security.visible import guard_output
from cluster.settings import Settings, load_settings
from cluster.store.postgres.connections import Pool, open_pool

app = typer.Typer(
    name="heimdex",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Videos in, searchable and exactly measured scenes out.",
    epilog="Settings are HEIMDEX_* variables; docs/reference/settings.md lists them all.",
)
app.add_typer(db_command.app, name="db")
app.add_typer(index_command.app, name="index")
app.command("list")(list_command.list_videos)
for command in (
    cluster_commands.up,
    cluster_commands.down,
    cluster_commands.env,
    list_command.show,
    watch_command.watch,
    status_command.status,
    status_command.top,
    search_command.search,
    tags_command.tags,
    transcript_command.transcript,
    queue_commands.cancel,
    queue_commands.retry,
    queue_commands.reprocess,
    queue_commands.quarantine,
    forget_command.forget,
    adopt_command.adopt,
    audit_command.audit,
    logs_command.logs,
):
    app.command()(command)
app.command("reembed")(reembed_command.reembed_scenes)

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


def _print_version(asked: bool) -> None:
    if asked:
        out(f"heimdex {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, help="Print the version.", is_eager=True)
    ] = False,
) -> None:
    """Take the options of all commands; each acts on its own."""


@app.command()
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


@app.command()
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


@app.command()
def demo() -> None:
    """Process the bundled clips with the bundled models, in a cluster of its own that is gone afterwards."""
    from cluster.cli.demo_command import run_demo

    raise typer.Exit(run_demo())


@app.command()
def migrate() -> None:
    """Apply the migrations that the database lacks, and restore functions of theirs that others replaced."""
    from cluster.store.postgres.admin_functions import restore_functions
    from cluster.store.postgres.migrations import apply_migrations
    from cluster.store.postgres.roles import restore_rights

    with launch.started_database(load_settings()) as urls:
        applied, restored = apply_migrations(urls.migrate), restore_functions(urls.migrate)
        rights = restore_rights(urls.migrate)
    for migration in applied:
        out(f"applied {migration.name}")
    for function in restored:
        out(f"restored {function}, which was not the migrations' own")
    for right in rights:
        out(f"restored a right: {right}")
    out("The database is up to date.")


@app.command()
def backfill(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, change nothing.")] = False,
) -> None:
    """Set processing_finished_at = updated_at on READY and FAILED videos that have none, and nothing else."""
    from cluster.store.postgres.backfill import backfill_finish_times

    with (
        launch.open_database_as_owner(load_settings()) as url,
        open_pool(url, max_size=2, name="heimdex-backfill") as pool,
    ):
        count = backfill_finish_times(pool, dry_run=dry_run)
    done = "would be" if dry_run else form(count, "was", "were")
    out(f"{counted(count, 'video')} {done} backfilled")


@app.command()
def token(
    sub: Annotated[UUID | None, typer.Option(help="User; default: the owner of this data directory.")] = None,
    days: Annotated[int, typer.Option(min=1, max=365, help="Days until it expires.")] = 1,
) -> None:
    """Print a development token, signed with the HS256 secret; it lives no longer than HEIMDEX_JWT_MAX_LIFETIME_S."""
    from serve_app.development_tokens import mint_token

    settings = load_settings()
    secret = settings.resolved_jwt_secret
    if secret is None:
        say("error: only HEIMDEX_JWKS_URL's keys are trusted: ask their issuer for tokens, or set HEIMDEX_JWT_SECRET")
        raise typer.Exit(2)
    asked_s = timedelta(days=days).total_seconds()
    lifetime = timedelta(seconds=min(asked_s, settings.jwt_max_lifetime_s or asked_s))
    out(mint_token(secret, sub or settings.resolved_owner_id, lifetime, settings.jwt_issuer))


@app.command()
def doctor() -> None:
    """Check every part and say how to fix what is wrong. Exit status 0: nothing is."""
    from cluster.cli.doctor import examine
    from cluster.cli.finding import show_findings

    findings = examine(load_settings())
    show_findings(findings)
    if any(not finding.ok for finding in findings):
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
    if urls is not None and launch.is_scheduling(urls):
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


def main() -> None:
    """Run a command; what the cluster raises on purpose becomes one line on standard error."""
    set_private_umask()
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # that Postgres is away is said in our own words
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # like Ctrl-C: what was brought up is taken down
    guard_output()
    try:
        sys.exit(run(plain_command(app)))
    except KeyboardInterrupt:
        say("Interrupted.")
        sys.exit(130)


if __name__ == "__main__":
    main()
