"""A pytest plugin that writes down how tests ended and which sources they ran on, for ``guards_trial``.

Self-contained: copied to where the tests of another tree find it. ``GUARDS_WITNESS`` names the file that it writes.
"""

import json
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

PACKAGES = {"actors", "cluster", "serve_app", "sql", "tests"}


class Witness:
    """The observations: ``failures`` with the phase and the kinds of the exception, ``uncollected``, ``sources``."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.failures: list[dict[str, Any]] = []
        self.uncollected: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.failed and call.excinfo is not None:
            kinds = [kind.__name__ for error in _chain(call.excinfo.value) for kind in type(error).__mro__]
            said = f"{call.excinfo.typename}: {call.excinfo.value}".strip().splitlines()[0]
            self.failures.append({"test": item.nodeid, "phase": report.when, "kinds": kinds, "said": said})
        elif report.passed and report.when == "call":
            self.passed.append(item.nodeid)
        return report

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            text = str(report.longrepr).strip().splitlines()
            self.uncollected.append(f"{report.nodeid}: {text[-1] if text else 'it said nothing'}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        modules = [module for name, module in list(sys.modules.items()) if name.partition(".")[0] in PACKAGES]
        files = {Path(module.__file__).resolve() for module in modules if module.__file__ is not None}
        seen = {**vars(self), "sources": sorted(map(str, files))}
        Path(os.environ["GUARDS_WITNESS"]).write_text(json.dumps(seen))


def _chain(error: BaseException) -> Generator[BaseException]:
    """The exception, what is grouped in it, and what it was raised from."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _chain(inner)
    if error.__cause__ is not None:
        yield from _chain(error.__cause__)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Witness())
