"""What every user meets first: the version, help without placeholders, and completion in the shell."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import __version__
from cluster.cli.help_text import plain_command
from cluster.cli.main import app
from tests.support.command_options import commands

COMMANDS = sorted(commands())


def heimdex(*arguments: str, home: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEIMDEX_")}
    return subprocess.run(
        [sys.executable, "-m", "cluster", *arguments],
        env={**environment, "HOME": str(home), "HEIMDEX_DATA_DIR": str(home / "data"), "COLUMNS": "200", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def help_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    plain_command(app)([*words, "--help"], prog_name="heimdex", standalone_mode=False)
    return capsys.readouterr().out


def test_version_alone_is_a_command(tmp_path: Path) -> None:
    done = heimdex("--version", home=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"heimdex {__version__}\n", "")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_no_placeholders_of_types(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(command.split(), capsys)
    assert f"Usage: heimdex {command}".strip() in text
    assert "--help " in text
    assert "<" not in text.replace("<=", "")


def test_help_names_what_an_option_takes(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(["process"], capsys)
    assert "--language        CODE" in text
    assert "--priority        NUMBER [-10<=x<=10]" in text


@pytest.mark.parametrize("command", ["process", "submit", "reprocess"])
def test_language_that_is_none_is_refused_in_one_sentence(command: str, tmp_path: Path) -> None:
    done = heimdex(command, "00000000-0000-4000-8000-000000000000", "--language", "klingon", home=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "'klingon' is no language that can be transcribed; it is one of af, am, ar," in done.stderr
    assert len(done.stderr.splitlines()) == 3  # usage, how to get help, the sentence


def test_uri_that_is_too_long_is_refused_in_one_sentence(tmp_path: Path) -> None:
    done = heimdex("submit", f"https://example.org/{'a' * 5000}", home=tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: uri: String should have at most 4096 characters\n")


@pytest.mark.parametrize(("shell", "file"), [("bash", ".bashrc"), ("zsh", ".zshrc")])
def test_completion_is_installed_for_heimdex(shell: str, file: str, tmp_path: Path) -> None:
    # The variable is typer's own, for where no shell is the parent process.
    done = heimdex(
        "--install-completion", shell, home=tmp_path, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1", SHELL=shell
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / file).is_file()


@pytest.mark.parametrize(
    ("typed", "expected"), [("heimdex rep", ["reprocess"]), ("heimdex process --pri", ["--priority"])]
)
def test_completion_in_bash_offers_commands_and_options(typed: str, expected: list[str], tmp_path: Path) -> None:
    count = str(len(typed.split()) - 1)
    done = heimdex(home=tmp_path, _HEIMDEX_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=count)
    assert done.stdout.split() == expected
