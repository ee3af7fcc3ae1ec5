"""``make opensearch``: a real OpenSearch for development, until Ctrl-C or SIGTERM.

Its data stay in the cache folder for the next time; they may be lost, since Postgres is the single source of truth.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.contracts.errors import ConfigurationError
from tests.support.opensearch_program import CACHE, PROGRAM, VERSION
from tests.support.real_opensearch import RealOpenSearch

FOLDER = CACHE / "opensearch"
_ENDING = (signal.SIGINT, signal.SIGTERM)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit with 0 after a signal. With 2 and one line when it cannot be started, with 1 when it ends otherwise."""
    parser = argparse.ArgumentParser(prog="make opensearch", description=f"A real OpenSearch {VERSION} on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=0, help="default: a free one, and printed")
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="data, configuration and log (default: %(default)s)"
    )
    parser.add_argument("--program", type=Path, default=PROGRAM, help="where it is unpacked (default: %(default)s)")
    options = parser.parse_args(arguments)
    server = RealOpenSearch(options.folder, options.port, options.program)
    try:
        server.check_machine()
        fetched = "" if options.program.exists() else " once it is fetched (200 MB)"
        print(f"OpenSearch {VERSION} starts{fetched}; Ctrl-C ends it.", file=sys.stderr)
        print(f"export HEIMDEX_OPENSEARCH_URL={server.start()}", flush=True)
        print(f"OpenSearch ended by itself: {server.wait()} (whole log: {server.log})", file=sys.stderr)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0
    finally:
        server.stop()
    return 1


def _interrupt(*_: object) -> None:
    """One signal is enough: what comes while the server ends must not stop that."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    for ending in _ENDING:
        signal.signal(ending, _interrupt)
    sys.exit(main())
