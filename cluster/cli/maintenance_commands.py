"""``heimdex demo``, ``doctor``, ``migrate``, ``backfill`` and ``token``: commands without a part of their own here."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

import typer

from cluster.cli.terminal import out, say
from cluster.contracts.counts import counted, form
from cluster.runtime import launch
from cluster.settings import load_settings
from cluster.store.postgres.connections import open_pool


def demo() -> None:
    """Process the bundled clips with the bundled models, in a cluster of its own that is gone afterwards."""
    from cluster.cli.demo_command import run_demo

    raise typer.Exit(run_demo())


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


def doctor() -> None:
    """Check every part and say how to fix what is wrong. Exit status 0: nothing is."""
    from cluster.cli.doctor import examine
    from cluster.cli.finding import show_findings

    findings = examine(load_settings())
    show_findings(findings)
    if any(not finding.ok for finding in findings):
        raise typer.Exit(1)
