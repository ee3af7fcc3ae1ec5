"""Access to OpenSearch: the client, and what its errors mean.

What is in its indexes is ``documents``', searching them ``index``', keeping them in step with
Postgres ``sync``'s.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cluster.contracts.errors import EngineTimeout, SearchUnavailable
from cluster.contracts.search import EngineAddress

if TYPE_CHECKING:
    from opensearchpy import OpenSearch, TransportError

TIMEOUT_S = 30.0
"""A query takes milliseconds, a bulk of documents seconds."""
_OURS = {400, 404, 409}
"""Statuses that say something of what was asked; all others say that the engine cannot do it now."""
_CANCELLED = "task_cancelled_exception"
"""The type of the error of a search that was cancelled at its time limit."""
_CONNECTION = re.compile(
    r"^HTTPS?Connection\w*\(host='(.*?)', port='?(\d+)'?\): (?:Failed to establish a new connection: )?"
)
"""Beginning of urllib3's messages on a connection."""


def open_client(address: EngineAddress, timeout_s: float = TIMEOUT_S) -> "OpenSearch":
    """A client, safe to share between threads; nothing is asked yet. Certificates are verified."""
    # Here and not above: it takes a fifth of a second to import, also for commands that ask no OpenSearch.
    from opensearchpy import OpenSearch

    logging.getLogger("opensearch").setLevel(logging.ERROR)  # what fails is raised, and said in our own words
    parts = urlsplit(address.url)
    secure = parts.scheme == "https"
    return OpenSearch(
        hosts=[{"host": parts.hostname, "port": parts.port or (443 if secure else 9200), "url_prefix": parts.path}],
        http_auth=None if address.user is None else (address.user, address.password or ""),
        use_ssl=secure,
        verify_certs=True,
        ca_certs=None if address.ca_file is None else str(address.ca_file),
        timeout=timeout_s,
        max_retries=0,  # the caller knows better whether and when to retry
        pool_maxsize=16,
    )


@contextmanager
def engine_errors() -> Iterator[None]:
    """Turn the client's errors within into ``SearchUnavailable``, unless the request is at fault."""
    from opensearchpy import ConnectionTimeout, OpenSearchException, TransportError  # here: as in open_client

    try:
        yield
    except ConnectionTimeout as error:
        raise EngineTimeout(f"OpenSearch takes too long: {_reason(error)}") from error
    except TransportError as error:
        if _CANCELLED in str(error.info):
            raise EngineTimeout("OpenSearch took too long and was stopped") from error
        if error.status_code == 404 and error.error == "index_not_found_exception":
            raise SearchUnavailable("OpenSearch has no index of the scenes: run `heimdex index rebuild`") from error
        if error.status_code in _OURS:
            raise
        raise SearchUnavailable(f"OpenSearch cannot be used: {_reason(error)}") from error
    except OpenSearchException as error:
        raise SearchUnavailable(f"OpenSearch cannot be used: {error}") from error


def _reason(error: "TransportError") -> str:
    """One line, in people's words where the client has none."""
    if error.status_code == 401:
        return "it wants another HEIMDEX_OPENSEARCH_USER or HEIMDEX_OPENSEARCH_PASSWORD"
    if not isinstance(error.status_code, int):  # the connection itself
        return _CONNECTION.sub(r"\1:\2: ", " ".join(str(error.info or error.error).split()))
    return f"{error.status_code} {error.error}"


def check_engine(client: "OpenSearch") -> None:
    """Raises SearchUnavailable when the engine does not answer, or without the k-NN plugin."""
    with engine_errors():
        plugins = {plugin["component"] for plugin in client.cat.plugins(format="json")}
    if "opensearch-knn" not in plugins:
        raise SearchUnavailable("OpenSearch runs without its k-NN plugin: install opensearch-knn on every node")
