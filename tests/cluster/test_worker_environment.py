"""The environment of a media worker of a real Ray: nothing that may be secret, wherever it is looked for."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray

from actors.workers.catalog import _MediaLoader
from actors.workers.configs import MediaConfig
from actors.workers.worker import WorkerInfo, remote_stage_actor
from cluster.contracts.media import MediaLimits
from cluster.files.storage import FetchLimits
from tests.support.small_ray import small_ray

SECRET = "a-secret-of-the-test"
LIMITS = MediaLimits(max_duration_s=600, max_pixels=10**7, max_fps=240, max_streams=8, max_bytes=10**9)


@pytest.fixture(scope="module")
def media_worker() -> Iterator[WorkerInfo]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEIMDEX_DATABASE_URL", f"postgresql://user:{SECRET}@host/db")
        for name in ("HEIMDEX_JWT_SECRET", "AWS_SECRET_ACCESS_KEY", "SOME_TOKEN"):
            patch.setenv(name, SECRET)
        with small_ray():
            loader = _MediaLoader(MediaConfig(LIMITS, FetchLimits(10**6, 10.0), 64, 1), confine=True)
            worker = remote_stage_actor(cpus=0).remote("media-1", loader, 1.0)
            yield ray.get(worker.describe.remote(), timeout=120)
            ray.kill(worker)


def environment(process: psutil.Process) -> bytes:
    return Path(f"/proc/{process.pid}/environ").read_bytes()


def test_media_worker_and_its_decoder_hold_no_secret(media_worker: WorkerInfo) -> None:
    worker = psutil.Process(media_worker.pid)
    node = worker.parent()
    assert node is not None
    assert SECRET.encode() in environment(node), "the node has it, so that there is something to be taken"
    (decoder,) = worker.children()
    for process in (worker, decoder):
        assert SECRET.encode() not in environment(process)
    assert "PATH" in decoder.environ()


def test_media_workers_decoder_ends_with_it(media_worker: WorkerInfo) -> None:
    worker = psutil.Process(media_worker.pid)
    (decoder,) = worker.children()
    worker.kill()
    assert psutil.wait_procs([decoder], timeout=20)[1] == []
