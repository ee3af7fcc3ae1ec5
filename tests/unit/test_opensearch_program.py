"""OpenSearch's program: a Java by its real version, archives by their sums, and one line for what a machine lacks."""

import os
import pwd
from pathlib import Path
from typing import NoReturn

import pytest

from cluster.contracts.errors import ConfigurationError
from tests.support import opensearch_program
from tests.support.missing_part import skip_but_on_ci
from tests.support.opensearch_command import main
from tests.support.opensearch_program import SERVER, NotInstalled, find_java, install
from tests.support.real_opensearch import RealOpenSearch


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with programs of the test's own only: bin is its PATH, jvm has its installed JDKs."""
    for name in ("bin", "jvm"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(opensearch_program, "JVM_FOLDER", tmp_path / "jvm")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for variable in ("OPENSEARCH_JAVA_HOME", "JAVA_HOME"):
        monkeypatch.delenv(variable, raising=False)


def write_program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def write_java(home: Path, version: str) -> Path:
    said = f"Property settings:\n    java.home = {home}\n    java.specification.version = {version}"
    write_program(home / "bin" / "java", f"echo '{said}' >&2")
    return home


def write_machine(tmp_path: Path, *, without: str = "") -> None:
    """All that starting takes, as far as it is looked for."""
    for name in {"java", "setpriv", "mvn"} - {without}:
        write_program(tmp_path / "bin" / name, "exit 1")
    if without != "java":
        write_java(tmp_path, "21")


def test_a_java_is_chosen_by_what_it_says_and_not_by_its_name(tmp_path: Path) -> None:
    write_java(tmp_path / "jvm" / "jdk-21", "17")
    right = write_java(tmp_path / "jvm" / "jdk-8", "25")
    write_java(tmp_path / "jvm" / "jdk-9", "1.8")
    assert find_java() == right


@pytest.mark.parametrize("variable", ["OPENSEARCH_JAVA_HOME", "JAVA_HOME"])
def test_a_named_java_goes_first_if_it_is_new_enough(tmp_path: Path, variable: str) -> None:
    installed = write_java(tmp_path / "jvm" / "jdk", "25")
    new = write_java(tmp_path / "new", "21")
    old = write_java(tmp_path / "old", "20")
    assert find_java({variable: str(new)}) == new
    assert find_java({variable: str(old)}) == installed
    assert find_java({variable: str(tmp_path / "none")}) == installed


def test_the_java_of_path_says_where_its_home_is(tmp_path: Path) -> None:
    home = write_java(tmp_path / "elsewhere", "22")
    (tmp_path / "bin" / "java").symlink_to(home / "bin" / "java")
    assert find_java() == home


def test_a_java_that_does_not_run_is_passed_over(tmp_path: Path) -> None:
    write_program(tmp_path / "jvm" / "a" / "bin" / "java", "exit 1")
    (tmp_path / "jvm" / "b" / "bin").mkdir(parents=True)
    (tmp_path / "jvm" / "b" / "bin" / "java").write_text("no program")
    right = write_java(tmp_path / "jvm" / "c", "21")
    assert find_java() == right


def test_what_was_found_instead_of_a_java_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotInstalled, match="there is no Java: install"):
        find_java()
    write_java(tmp_path / "jvm" / "a", "17")
    write_java(tmp_path / "jvm" / "b", "1.8")
    with pytest.raises(NotInstalled, match="there is only Java 8, 17: install"):
        find_java()


def test_an_archive_with_another_sum_is_refused(tmp_path: Path) -> None:
    brought = SERVER.path_in(Path("maven"))
    write_program(tmp_path / "bin" / "mvn", f"/bin/mkdir -p {brought.parent} && echo something else > {brought}")
    with pytest.raises(ConfigurationError, match=f"opensearch:3.5.0:zip is not what it should be.*{SERVER.sha256}"):
        install(tmp_path / "made" / "program")
    assert [path.name for path in (tmp_path / "made").iterdir()] == [".program.lock"]


def test_why_maven_fetches_nothing_is_said(tmp_path: Path) -> None:
    write_program(tmp_path / "bin" / "mvn", "echo; echo '[ERROR] Unknown host'; echo '[ERROR] Try again'; exit 1")
    with pytest.raises(ConfigurationError, match=r"Maven cannot fetch .*opensearch:3.5.0:zip: Unknown host$") as caught:
        install(tmp_path / "made" / "program")
    assert not isinstance(caught.value, NotInstalled)


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("java", "there is no Java: install one (on Debian and Ubuntu: apt install openjdk-21-jre-headless)"),
        ("mvn", "there is no mvn: install it (on Debian and Ubuntu: apt install maven)"),
        ("setpriv", "there is none: install it (on Debian and Ubuntu: apt install util-linux)"),
    ],
)
def test_the_command_says_in_one_line_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: str, said: str
) -> None:
    write_machine(tmp_path, without=missing)
    assert main(["--folder", str(tmp_path / "server"), "--program", str(tmp_path / "program")]) == 2
    assert_one_line(capsys, said)


def test_root_is_told_which_account_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown(name: str) -> NoReturn:
        raise KeyError(name)

    write_machine(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(pwd, "getpwnam", unknown)
    assert main(["--folder", str(tmp_path / "server"), "--program", str(tmp_path / "program")]) == 2
    assert_one_line(capsys, "there is no account nobody: make it (useradd --system nobody) or run as another user")


def assert_one_line(capsys: pytest.CaptureFixture[str], said: str) -> None:
    output = capsys.readouterr()
    assert output.out == ""
    assert len(output.err.splitlines()) == 1
    assert said in output.err


def test_a_server_that_does_not_run_has_no_url(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not run: start it"):
        _ = RealOpenSearch(tmp_path).url


def test_tests_without_their_part_are_skipped_and_fail_on_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"^there is no Java$"):
        skip_but_on_ci("there is no Java")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"^there is no Java$"):
        skip_but_on_ci("there is no Java")
