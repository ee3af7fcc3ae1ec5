"""The database sessions of the HTTP side, apart by what they are for: searches and health do not wait for the rest."""

from cluster.store.postgres.connections import Pool, open_pool
from serve_app.limits import DEFAULT_LIMITS

DATABASE_WAIT_S = 5.0
"""Longest wait of a request for a database session before it is answered with 503."""
SEARCH_TIMEOUT_S = 3.0
"""Time that a statement of a search may run, and each list of the search engine."""
HEALTH_TIMEOUT_S = 3.0
"""Time that the database may take to say that it is there."""


def open_api_pool(url: str, request_timeout_s: float = DEFAULT_LIMITS.request_timeout_s) -> Pool:
    """A pool that gives up early: an outage is a quick 503, and over as soon as the database is back.

    psycopg_pool by default tries for five minutes at growing intervals to replace a lost connection. A statement runs
    no longer than a request may take: the client would not wait for it.
    """
    pool = open_pool(url, min_size=1, max_size=8, name="heimdex-api", statement_timeout_s=request_timeout_s)
    pool.timeout = min(DATABASE_WAIT_S, request_timeout_s)
    pool.reconnect_timeout = DATABASE_WAIT_S
    return pool


def open_search_pool(url: str) -> Pool:
    """The searches' own pool: whatever these ask for, sessions are left for everything else."""
    pool = open_pool(url, min_size=1, max_size=8, name="heimdex-search", statement_timeout_s=SEARCH_TIMEOUT_S)
    pool.timeout = pool.reconnect_timeout = DATABASE_WAIT_S
    return pool


def open_health_pool(url: str) -> Pool:
    """One session that is always there, so that full pools are not taken for a database that is away."""
    pool = open_pool(url, min_size=1, max_size=1, name="heimdex-health", statement_timeout_s=HEALTH_TIMEOUT_S)
    pool.timeout = pool.reconnect_timeout = HEALTH_TIMEOUT_S
    return pool
