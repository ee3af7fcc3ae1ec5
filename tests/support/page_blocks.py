"""Shell blocks of the documentation's pages, run as a reader pastes them."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from cluster.store.postgres.embedded import binary

DOCS = Path(__file__).parents[2] / "docs"
PROGRAM = f'#!/bin/sh\nexec {sys.executable} -m cluster "$@"\n'


def blocks_run_by(test: Path, page: Path) -> list[str]:
    """The shell blocks of a page that are marked as run by a test, without their indentation."""
    mark = re.escape(f"<!-- run by tests/{test.parent.name}/{test.name} -->")
    found = re.findall(rf"^( *){mark}\n *```sh\n(.*?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL)
    if not found:
        raise ValueError(f"no block of {page.name} is run by {test.name}")
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def make_programs(folder: Path) -> str:
    """A PATH with ``heimdex``, ``python`` and ``psql`` in front."""
    folder.mkdir(exist_ok=True)
    command = folder / "heimdex"
    command.write_text(PROGRAM)
    command.chmod(0o755)
    return ":".join([str(folder), str(Path(sys.executable).parent), str(binary("psql").parent), os.environ["PATH"]])


def run_blocks(blocks: list[str], environment: Mapping[str, str], folder: Path, timeout_s: float) -> str:
    """Run blocks in one shell that ends at the first error; returns standard output."""
    script = "\n".join(["set -euxo pipefail", *blocks])
    done = subprocess.run(
        ["bash", "-c", script],
        env=dict(environment),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout
