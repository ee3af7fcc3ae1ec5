"""An OpenSearch of one's own in a folder that is gone afterwards, for benchmarks and for whoever kills it."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.real_opensearch import RealOpenSearch


@contextmanager
def opensearch_server(java_options: str = "") -> Iterator[RealOpenSearch]:
    """The server, which runs; its folder lies in one that is nobody else's."""
    folder = Path(tempfile.mkdtemp(prefix="heimdex-own-opensearch-"))
    server = RealOpenSearch(folder / "opensearch", java_options=java_options)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
