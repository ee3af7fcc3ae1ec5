"""The imports of the commands before they do anything."""

import subprocess
import sys


def test_commands_import_no_ray() -> None:
    """Ray reads its settings when it is imported, so they must be set before."""
    statement = "import cluster.cli.main, sys; sys.exit('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", statement], check=False)
    assert done.returncode == 0
