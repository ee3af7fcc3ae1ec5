"""`heimdex up` on a machine without internet: every model that is missing is named before Ray is started."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def test_up_offline_names_every_model_before_ray_starts(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="heimdex-up-") as folder:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HEIMDEX_")},
            "HEIMDEX_DATA_DIR": folder,
            "HEIMDEX_HTTP_PORT": "0",
            "HEIMDEX_DASHBOARD_PORT": "0",
            "HF_HOME": str(tmp_path / "hub"),
            "HF_HUB_OFFLINE": "1",
        }
        command = [sys.executable, "-m", "cluster", "up"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert all(f"{kind} model " in last for kind in ("speech", "vision", "text"))
    assert "set HEIMDEX_MODELS=bundled" in last
    assert "starting Ray" not in done.stderr
