"""The test files of a module: ``python -m tests.support.module_tests web_source`` (``make test-of MODULE=web_source``).

Tests are named by what they prove, so a module's tests are found by what they import: the files that import it, or
the support module that does. Where there are none, those of the modules that import it.
"""

import ast
import re
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("cluster", "actors", "serve_app")
SUITES = ("unit", "integration", "cluster")


def files_testing(name: str) -> list[str]:
    """The test files of a module, which is named by its path or the end of its name.

    Raises:
        LookupError: No module or more than one has that name.
    """
    wanted = name.removesuffix(".py").replace("/", ".")
    found = [module for module in _modules() if module == wanted or module.endswith(f".{wanted}")]
    if len(found) != 1:
        raise LookupError(f"{name}: " + (f"one of {', '.join(found)}?" if found else "there is no such module"))
    known, reached = {found[0]}, {found[0]}
    while reached:
        tests = [path for path, imported in _imports_of_tests().items() if imported & reached]
        if tests:
            return tests
        reached = {module for module, imported in _modules().items() if imported & reached} - known
        known |= reached
    return []


@cache
def _modules() -> dict[str, frozenset[str]]:
    """Every module with the modules of the project that it imports."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {_name(path): frozenset(_imported(path)) for path in paths if not path.stem.startswith("__")}


@cache
def _imports_of_tests() -> dict[str, frozenset[str]]:
    """Every test file with what it imports, itself or by a module of ``tests/support``."""
    support = {_name(path): frozenset(_imported(path)) for path in (ROOT / "tests" / "support").glob("*.py")}
    found = {}
    for suite in SUITES:
        for path in sorted((ROOT / "tests" / suite).glob("test_*.py")):
            imported = set(_imported(path))
            found[str(path.relative_to(ROOT))] = frozenset(
                imported.union(*(support.get(name, ()) for name in imported))
            )
    return found


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def _imported(path: Path) -> Iterable[str]:
    """Names of modules that are imported or run as programs, and of what is imported from them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and str(node.value).startswith(PACKAGES):
            yield from re.findall(r"[a-z_.]+", str(node.value))


if __name__ == "__main__":
    try:
        sys.stdout.writelines(f"{path}\n" for path in files_testing(sys.argv[1]))
    except (LookupError, IndexError) as error:
        sys.exit(f"error: {error}")
