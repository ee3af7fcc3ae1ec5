"""The entry point of ``ray job submit``: enqueue a manifest, wait for its videos, print a summary.

    ray job submit --working-dir . -- python -m cluster.batch --manifest videos.csv

Exit status: 0 when every row is READY, 1 when a row was bad or a video failed, 2 when nothing could be started.
"""

import sys
from typing import Annotated

import typer

from cluster.cli.report import print_bad_rows, print_failures, print_summary, print_warnings
from cluster.cli.submission_options import Again, enqueue, known_sentence
from cluster.cli.submitted import print_submitted
from cluster.cli.terminal import out, run, say
from cluster.cli.watch import watch_lines
from cluster.contracts.batches import new_batch
from cluster.contracts.counts import counted
from cluster.contracts.videos import Origin
from cluster.files.manifest import read_manifest
from cluster.runtime.launch import existing_database_url
from cluster.runtime.ray_driver import RAY_NAMESPACE
from cluster.security.log_output import set_up_logging
from cluster.security.private_files import set_private_umask
from cluster.security.visible import guard_output
from cluster.settings import load_settings
from cluster.store.postgres.connections import open_pool
from cluster.store.videos.progress import read_results

app = typer.Typer(add_completion=False)


@app.command()
def batch(
    manifest: Annotated[str, typer.Option(help="csv, jsonl, JSON or parquet: columns uri, language (optional).")],
    again: Again = False,
) -> None:
    """Enqueue the videos of a manifest on the cluster this job runs on, wait for them, print a summary."""
    import ray

    settings = load_settings()
    url = existing_database_url(settings)
    if url is None:
        say("no database: set HEIMDEX_DATABASE_URL, or start the cluster with `heimdex up`")
        raise typer.Exit(2)
    set_up_logging(settings.log_config, stderr_level="warning", process="batch")
    ray.init(namespace=RAY_NAMESPACE, log_to_driver=False)
    rows = read_manifest(manifest)
    with open_pool(url, max_size=2, name="heimdex-batch") as pool:
        name = new_batch()
        submitted = enqueue(pool, settings, rows.submissions, Origin.MANIFEST, batch=name, again=again)
        ids = list(dict.fromkeys(submitted.ids))
        out(f"submitted {counted(submitted.new, 'video')}")
        print_submitted(submitted, [submission.uri for submission in rows.submissions], name)
        if submitted.known:
            out(known_sentence(submitted))
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
