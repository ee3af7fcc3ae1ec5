"""Another account of the machine reaches nothing of a cluster that is up: no file, folder, socket, port or job."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from tests.support.command_line import CommandLine, belongs_to
from tests.support.missing_part import skip_but_on_ci

AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
SCRIPT = Path(__file__).parents[1] / "support" / "other_account.py"


def places_of(folder: Path, state: dict[str, Any]) -> dict[str, Any]:
    """All that the cluster has on this machine, as the account that runs it sees it."""
    roots = [folder / "data", folder / "scratch", Path(state["node"]["temp_dir"])]
    paths = [path for root in roots if root.exists() for path in (root, *root.rglob("*"))]
    kinds = {path: path.lstat().st_mode for path in paths}
    processes = [each for each in psutil.process_iter() if belongs_to(each, folder)]
    environments = [f"/proc/{each.pid}/environ" for each in processes]
    ports = {c.laddr.port for each in processes for c in each.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    assert ports
    assert any(stat.S_ISSOCK(mode) for mode in kinds.values())
    return {
        "files": [
            *map(str, (p for p, m in kinds.items() if stat.S_ISREG(m))),
            str(folder / "ray_token"),
            *environments,
        ],
        "folders": [str(path) for path, mode in kinds.items() if stat.S_ISDIR(mode)],
        "sockets": [str(path) for path, mode in kinds.items() if stat.S_ISSOCK(mode)],
        "ports": sorted(ports),
        "http_port": urlsplit(state["http_url"]).port,
    }


def test_other_account_reaches_nothing_of_a_cluster(heimdex: CommandLine, cluster_state: dict[str, Any]) -> None:
    if os.geteuid() != 0:
        skip_but_on_ci("only root may act as another account")
    heimdex.folder.chmod(0o755)  # the cluster's own folders are what is tested
    try:
        succeeded = tried_by_another_account(places_of(heimdex.folder, cluster_state))
    finally:
        heimdex.folder.chmod(0o700)
    page = f"GET {urlsplit(cluster_state['dashboard_url']).port}/"  # the dashboard's empty page; its data wants a token
    assert [attempt for attempt in succeeded if attempt != page] == []


def tried_by_another_account(places: dict[str, Any]) -> list[str]:
    """The attempts that succeeded. The account runs a Python that it reaches, whichever ours is."""
    done = subprocess.run(
        [*AS_NOBODY, python_for_all(), "-"],
        input=SCRIPT.read_text().replace("json.load(sys.stdin)", repr(places)),
        capture_output=True,
        text=True,
        cwd="/",
        timeout=200,
        check=True,
    )
    succeeded: list[str] = json.loads(done.stdout)
    return succeeded


def python_for_all() -> str:
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        done = subprocess.run([*AS_NOBODY, python, "-c", "pass"], check=False, cwd="/", capture_output=True)
        if done.returncode == 0:
            return python
    return skip_but_on_ci("another account can run no Python here")
