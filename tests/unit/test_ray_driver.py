"""The process that drives Ray, before it is given work and when it cannot begin; no Ray is started."""

from pathlib import Path

import psutil
import pytest

from cluster.runtime.ray_driver import RayDriver, RayPlace


def fail() -> None:
    raise ImportError("no module named torch")


def test_driver_without_work_ends_when_it_is_closed(tmp_path: Path) -> None:
    driver = RayDriver(tmp_path / "driver.log", ours=True)
    (child,) = (process for process in psutil.Process().children() if process.pid == driver._process.pid)
    driver.close()
    assert not child.is_running()


def test_driver_that_cannot_import_says_so(tmp_path: Path) -> None:
    driver = RayDriver(tmp_path / "driver.log", ours=True, ahead=fail)
    with pytest.raises(RuntimeError, match="ImportError: no module named torch"):
        driver.run(RayPlace("127.0.0.1:1", ours=True), print, print)
    driver.close()
    assert "ImportError" in (tmp_path / "driver.log").read_text()
