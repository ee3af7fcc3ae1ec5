"""The imports of the commands before they do anything: what takes long is imported by the command that needs it."""

import subprocess
import sys

import pytest

SLOW = frozenset(
    {
        *("ray", "torch", "faster_whisper", "open_clip", "fastapi", "pyarrow"),
        *("numpy", "av", "PIL", "fsspec", "opensearchpy", "httpx", "transformers", "sentence_transformers"),
    }
)
"""Packages that a command pays for in tenths of a second, or seconds."""
PRINT_SLOW = f"""
import sys
try:
    {{statement}}
finally:
    print("imported:", *sorted(set(sys.modules) & set({sorted(SLOW)})))
"""


@pytest.mark.parametrize(
    "statement",
    [
        "import cluster.cli.main",
        "import cluster.cli.main as commands; sys.argv = ['heimdex', '--help']; commands.main()",
        "import cluster.cli.main as commands; sys.argv = ['heimdex', 'search', '--help']; commands.main()",
        "import cluster.cli.main, cluster.cli.status, cluster.store.postgres.migrations",
        "import cluster.cli.main, cluster.store.queue.submissions, serve_app.development_tokens",
    ],
    ids=["import", "help", "help-of-search", "status", "cancel-and-token"],
)
def test_command_imports_nothing_slow(statement: str) -> None:
    """Ray also reads its settings when it is imported, so they must be set before."""
    code = PRINT_SLOW.format(statement=statement)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "imported:"


def test_search_command_imports_no_model_library() -> None:
    """Where a cluster is up, its models answer."""
    statement = "import cluster.cli.running_search"
    done = subprocess.run(
        [sys.executable, "-c", PRINT_SLOW.format(statement=statement)], check=True, capture_output=True, text=True
    )
    imported = set(done.stdout.splitlines()[-1].removeprefix("imported:").split())
    assert imported <= {"numpy"}
