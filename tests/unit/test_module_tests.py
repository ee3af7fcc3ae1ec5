"""A module's tests are found by its name."""

from pathlib import Path

import pytest

from tests.support.module_tests import PACKAGES, ROOT, files_testing


@pytest.mark.parametrize(
    ("name", "test"),
    [
        ("web_body", "tests/unit/test_web_answers.py"),
        ("cluster/files/web_body.py", "tests/unit/test_web_answers.py"),
        ("cluster.batch", "tests/cluster/test_commands.py"),
        ("actors.scheduler.admission", "tests/unit/test_admission.py"),
    ],
)
def test_module_leads_to_the_tests_that_import_it(name: str, test: str) -> None:
    assert test in files_testing(name)


def test_every_module_has_tests() -> None:
    modules = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("[a-z]*.py"))]
    named = [str(path.relative_to(ROOT)) for path in modules if not path.stem.startswith("__")]
    assert len(named) > 250
    assert [name for name in named if not files_testing(name)] == []
    assert all(Path(ROOT, test).is_file() for test in files_testing(named[0]))


@pytest.mark.parametrize("name", ["nonsense", "", "videos"])
def test_unknown_or_ambiguous_name_is_an_error(name: str) -> None:
    with pytest.raises(LookupError, match=r"no such module|one of"):
        files_testing(name)
