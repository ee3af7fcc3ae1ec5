"""The systemd unit and the Dockerfile of docs/deploy name what exists, and what `up --foreground` promises them."""

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.core import TyperCommand

from cluster.settings import PREFIX, Settings
from serve_app.route_table import OPEN_ROUTES
from tests.support.command_options import commands

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"
KNOWN = {PREFIX + name.upper() for name in Settings.model_fields}


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys in their own case
    parser.read(DEPLOY / "heimdex.service")
    return parser


def instructions() -> dict[str, list[str]]:
    """The arguments of each instruction of the Dockerfile, by its name."""
    text = re.sub(r"\\\n\s*", " ", (DEPLOY / "Dockerfile").read_text())
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            found.setdefault(name, []).append(rest.strip())
    return found


def check_command(words: list[str]) -> None:
    command: TyperCommand = commands()[words[0]]
    assert set(words[1:]) <= {option for parameter in command.params for option in parameter.opts}


def test_unit_runs_a_command_that_exists() -> None:
    program, *words = unit()["Service"]["ExecStart"].split()
    assert Path(program).name == "heimdex"
    check_command(words)
    assert "--foreground" in words


def test_unit_signals_the_main_process_and_outwaits_down() -> None:
    service = unit()["Service"]
    assert (service["Type"], service["NotifyAccess"], service["KillMode"]) == ("notify", "main", "mixed")
    assert int(service["TimeoutStopSec"].removesuffix("s")) >= 30
    assert service["Restart"] == "on-failure"
    assert set(re.findall(rf"{PREFIX}[A-Z_]+", service["Environment"])) <= KNOWN


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_unit_is_accepted_by_systemd(tmp_path: Path) -> None:
    # It wants the program and the account to exist: this machine's own in their place.
    text = (DEPLOY / "heimdex.service").read_text()
    here = text.replace("/opt/heimdex/bin/heimdex", "/bin/true").replace("=heimdex\n", "=root\n", 2)
    path = tmp_path / "heimdex.service"
    path.write_text(here.replace("User=heimdex", "User=root").replace("Group=heimdex", "Group=root"))
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    own = [line for line in done.stderr.splitlines() if "heimdex.service" in line]
    assert (done.returncode, own) == (0, [])
    path.write_text(text.replace("Type=notify", "Type=noticed").replace("[Service]", "[Service]\nNoSuchKey=1"))
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    assert "NoSuchKey" in done.stderr, "a mistake would be found"


def test_dockerfile_starts_and_checks_what_exists() -> None:
    found = instructions()
    entry, command = json.loads(found["ENTRYPOINT"][0]), json.loads(found["CMD"][0])
    assert entry == ["tini", "--", "heimdex"]
    check_command(command)
    assert found["STOPSIGNAL"] == ["SIGTERM"]
    (path,) = re.findall(r"127\.0\.0\.1:8000(/\w+)", found["HEALTHCHECK"][0])
    assert path in {route.path for route in OPEN_ROUTES}
    assert found["EXPOSE"] == [str(Settings.model_fields["http_port"].default)]


def test_dockerfile_copies_and_sets_what_exists() -> None:
    found = instructions()
    sources = [source for copied in found["COPY"] for source in copied.split()[:-1]]
    assert all((ROOT / source).exists() for source in sources)
    assert set(re.findall(rf"{PREFIX}[A-Z_]+", " ".join(found["ENV"]))) <= KNOWN
    assert re.search(r"python:3\.(1[1-9])-", found["FROM"][0])
    packages = re.findall(r"--requirement (\S+)", " ".join(found["RUN"]))
    assert packages == ["requirements.lock"]
    assert found["USER"] == ["heimdex"], "it does not run as root"


def test_page_names_settings_and_commands_that_exist() -> None:
    page = (ROOT / "docs" / "how-to" / "systemd-and-container.md").read_text()
    assert set(re.findall(rf"{PREFIX}[A-Z_]*[A-Z]", page)) - {"HEIMDEX_JWT_SECRET_FILE"} <= KNOWN
    for words in re.findall(r"heimdex heimdex ([a-z]+)|bin/heimdex ([a-z]+)", page):
        assert "".join(words) in commands()
    links = re.findall(r"\]\((?!https?://)([^)#]+)", page)
    assert [link for link in links if not (DEPLOY / link).exists()] == []
