"""What ``heimdex doctor`` says of whose files may be read: by HTTP, and by those who may write the queue."""

from collections.abc import Iterator

from cluster.cli.finding import Finding
from cluster.files.fetch_limits import http_rules
from cluster.runtime import launch
from cluster.settings import Settings
from cluster.store.postgres.migrations import pending_migrations
from cluster.store.queue.rights import other_writers

WEB = frozenset({"http", "https"})


def submissions(settings: Settings) -> Iterator[Finding]:
    """Schemes that open whole stores, or this machine, to every user; roles that may queue what they want."""
    rules = http_rules(settings)
    whole = sorted(rules.schemes - WEB)
    seen = ", ".join([*sorted(rules.schemes), *(prefix.template for prefix in rules.prefixes)]) or "nothing"
    yield Finding(
        "submissions by HTTP",
        not whole,
        seen if not whole else f"{seen}: every user reads all that this cluster reads by {', '.join(whole)}",
        "list folders in HEIMDEX_HTTP_URI_PREFIXES in place of the scheme in HEIMDEX_HTTP_ALLOWED_SCHEMES",
    )
    url = launch.existing_database_url(settings)
    if url is None or pending_migrations(url):
        return
    writers = other_writers(url)
    yield Finding(
        "queue",
        not writers,
        f"may be written by {', '.join(writers)}" if writers else "is this cluster's alone",
        "REVOKE INSERT, UPDATE ON video_processing FROM them: who queues a row decides what is read",
    )
