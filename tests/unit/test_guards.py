"""The table of guards fits the sources; removing a guard shows whether a test notices."""

import ast
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path

import psutil
import pytest

from tests.chaos.guards import GUARDS, ROOT, run
from tests.chaos.guards_trial import Copy, Guard, StaleGuard


@cache
def defined_in(file: str) -> set[str]:
    return {node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guard_is_in_one_place_and_its_tests_exist(guard: Guard) -> None:
    left = guard.removed_from(ROOT)
    assert left != (ROOT / guard.file).read_text()
    assert guard.tests
    for test in guard.tests:
        file, _, name = test.partition("::")
        assert name.partition("[")[0] in defined_in(file)


def test_every_guard_has_a_name_of_its_own() -> None:
    assert [name for name, count in Counter(guard.name for guard in GUARDS).items() if count > 1] == []
    assert len(GUARDS) >= 30


# The checker


SOURCE = "def doubled(number):\n    if number < 0:\n        raise ValueError(number)\n    return 2 * number\n"
TESTS = """
import time
import pytest
from cluster.numbers import doubled

def test_what_is_below_nothing_is_refused():
    with pytest.raises(ValueError):
        doubled(-1)

def test_a_number_is_doubled():
    assert doubled(2) == 4

@pytest.fixture
def four():
    return doubled(2) if doubled(1) == 2 else 1 / 0

def test_twice(four):
    assert doubled(four) == 8

def test_that_never_passes():
    assert doubled(1) == 3

def test_that_never_ends():
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with one guard in it."""
    root = tmp_path_factory.mktemp("project")
    (root / "cluster").mkdir()
    (root / "cluster" / "__init__.py").touch()
    (root / "cluster" / "numbers.py").write_text(SOURCE)
    (root / "test_numbers.py").write_text(TESTS)
    (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    return root


def guard(name: str, text: str, without: str, test: str) -> Guard:
    return Guard(name, "cluster/numbers.py", text, without, (f"test_numbers.py::{test}",))


REFUSED = "test_what_is_below_nothing_is_refused"
CHECK = "if number < 0:"


@pytest.mark.timeout(120)
def test_what_is_noticed_and_what_is_not(project: Path) -> None:
    said: list[str] = []
    guards = [
        guard("noticed", CHECK, "if number is None:", REFUSED),
        guard("nobody notices", CHECK, "if number is None:", "test_a_number_is_doubled"),
        guard("breaks what is imported", "def doubled", "import nothing_of_that_name\n\n\ndef doubled", REFUSED),
        guard("breaks the names", "raise ValueError(number)", "raise Nothing(number)", REFUSED),
        guard("breaks what is set up", "return 2 * number", "return number", "test_twice"),
        guard("never passes", CHECK, "if number is None:", "test_that_never_passes"),
        guard("is gone", "if number < 1:", "if number is None:", REFUSED),
    ]
    counts = run(3, said.append, guards, project)
    assert counts.noticed == 1
    assert (counts.seed, counts.guards, counts.tests) == (3, 7, 4)
    assert [line.partition(": ")[0] for line in counts.violations] == [
        "breaks the names",
        "breaks what is imported",
        "breaks what is set up",
        "is gone",
        "never passes",
        "nobody notices",
    ]
    assert "does not notice" in next(line for line in counts.violations if line.startswith("nobody notices"))
    assert any(line.startswith(f"noticed: {REFUSED} says Failed: DID NOT RAISE") for line in said)
    assert "violations 6" in counts.lines()
    assert (project / "cluster" / "numbers.py").read_text() == SOURCE


def test_what_comes_to_no_end_is_ended(project: Path, tmp_path: Path) -> None:
    copy = Copy(project, tmp_path)
    before = psutil.Process().children()
    seen = copy.run(["test_numbers.py::test_that_never_ends"], 2.0)
    assert (seen.status, seen.failures) == (None, [])
    assert copy.run(["test_numbers.py::test_a_number_is_doubled"]).has_passed(
        "test_numbers.py::test_a_number_is_doubled"
    )
    assert psutil.Process().children() == before


@pytest.mark.parametrize(
    ("text", "without", "said"),
    [
        ("number", "n", "in 4 places"),
        ("nothing of that", "", "in 0 places"),
        ("if number < 0:", "if number < :", "is no Python"),
    ],
)
def test_an_entry_that_no_longer_fits_is_told(project: Path, text: str, without: str, said: str) -> None:
    with pytest.raises(StaleGuard, match=said):
        guard("stale", text, without, REFUSED).removed_from(project)
    with pytest.raises(StaleGuard, match=r"there is no cluster/gone\.py"):
        Guard("stale", "cluster/gone.py", text, without, ()).removed_from(project)
