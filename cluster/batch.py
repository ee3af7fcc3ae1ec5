"""The entry point of ``ray job submit``: enqueue a manifest, wait for its videos, print a summary.

    ray job submit --working-dir . -- python -m cluster.batch --manifest videos.csv

Exit status: 0 when every row is READY, 1 when a row was bad or a video failed, 2 when nothing could be started.
"""

import sys
from typing import Annotated

import typer

from cluster.cli.report import print_bad_rows, print_failures, print_summary, print_warnings
from cluster.cli.submitted import print_submitted
from cluster.cli.terminal import out, run, say
from cluster.cli.watch import watch_lines
from cluster.contracts.batches import new_batch
from cluster.contracts.quotas import SubmissionLimits
from cluster.contracts.videos import Origin
from cluster.files.manifest import read_manifest
from cluster.runtime.launch import existing_database_url
from cluster.runtime.ray_driver import RAY_NAMESPACE
from cluster.security.private_files import set_private_umask
from cluster.security.visible import guard_output
from cluster.settings import load_settings
from cluster.store.postgres.connections import open_pool
from cluster.store.queue.submissions import submit
from cluster.store.videos.progress import read_results

app = typer.Typer(add_completion=False)


@app.command()
def batch(
    manifest: Annotated[str, typer.Option(help="csv, jsonl, JSON or parquet: columns uri, language (optional).")],
) -> None:
    """Enqueue the videos of a manifest on the cluster this job runs on, wait for them, print a summary."""
    import ray

    settings = load_settings()
    url = existing_database_url(settings)
    if url is None:
        say("no database: set HEIMDEX_DATABASE_URL, or start the cluster with `heimdex up`")
        raise typer.Exit(2)
    ray.init(namespace=RAY_NAMESPACE, log_to_driver=False)
    rows = read_manifest(manifest)
    with open_pool(url, max_size=2, name="heimdex-batch") as pool:
        limits, owner_id = SubmissionLimits(quotas=settings.owner_quotas), settings.resolved_owner_id
        found, name = rows.submissions, new_batch()
        ids = submit(pool, owner_id, found, limits=limits, origin=Origin.MANIFEST, batch=name) if found else []
        out(f"submitted {len(ids)} videos")
        print_submitted(ids, [submission.uri for submission in found], name)
        watch_lines(pool, ids, out)
        results = read_results(pool, ids)
    print_summary(results)
    print_bad_rows(manifest, rows.bad_rows)
    print_warnings(results)
    print_failures(results)
    if rows.bad_rows or any(result["status"] != "READY" for result in results):
        raise typer.Exit(1)


def main() -> None:
    """Run the command; errors that the cluster raises on purpose are one line, no traceback."""
    set_private_umask()
    guard_output()
    sys.exit(run(app))


if __name__ == "__main__":
    main()
