"""The environment of a measurement: the day, the processor, the versions."""

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

PACKAGES = ("ray", "torch", "faster-whisper", "ctranslate2", "av", "scenedetect-headless")


def machine(also: Sequence[str] = ()) -> str:
    """One line; ``also``: further packages whose versions belong in it."""
    versions = ", ".join(f"{name} {version(name)}" for name in (*PACKAGES, *also))
    python = platform.python_version()
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    return f"{day}, {_processor()}, {psutil.cpu_count()} CPUs, no GPU used, Python {python}, {versions}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
