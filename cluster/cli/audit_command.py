"""``heimdex audit``: who did what to which object."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from cluster.cli.terminal import out, out_json
from cluster.runtime import launch
from cluster.settings import load_settings
from cluster.store.postgres.audit_log import read_audit_log
from cluster.store.postgres.connections import open_pool


def audit(
    object_id: Annotated[
        str | None, typer.Option("--object", help="Only what was done to this video, owner, address or model.")
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Only since then (UTC).")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many, latest first.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array on standard output.")] = False,
) -> None:
    """List who cancelled, forgot, retried, reprocessed, read as an admin, or changed models and settings."""
    aware = since.replace(tzinfo=UTC) if since is not None else None
    with (
        launch.open_database(load_settings()) as url,
        open_pool(url, max_size=1, name="heimdex-audit") as pool,
    ):
        rows = read_audit_log(pool, limit, since=aware, object_id=object_id)
    if as_json:
        out_json([asdict(row) for row in rows])
        return
    for row in rows:
        details = f" {json.dumps(row.details)}" if row.details else ""
        actor = f"{row.actor_kind}:{row.actor}"
        out(f"{row.at:%Y-%m-%d %H:%M:%S} {actor} {row.action} {row.object_kind}:{row.object}{details}")
