"""From hardware to workers: whatever the machine, every worker can be placed, and there is one of each kind."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.workers.catalog import WorkerPlan
from actors.workers.fetch_slots import FetchLimit
from cluster.contracts.errors import ConfigurationError, InvalidVideo
from cluster.contracts.media import LocalVideo
from cluster.contracts.stages import WorkerKind
from cluster.files.deadline import Pace
from cluster.files.storage_root import StorageRoot
from cluster.runtime.plan import Hardware, plan_workers
from cluster.settings import Settings, load_settings
from tests.support.media_files import Shot, write_video


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("HEIMDEX_"):
            monkeypatch.delenv(name)


def plan(cpus: float, gpus: float = 0.0, **settings: object) -> WorkerPlan:
    return plan_workers(load_settings(**settings), "postgresql://host/db", Hardware(cpus, gpus, cpus))


def assert_placeable(planned: WorkerPlan, cpus: float, gpus: float) -> None:
    """Ray reserves whole CPUs above one, four decimals below, and shares of single cards."""
    for kind in WorkerKind:
        placement = planned.placements[kind]
        assert placement.count >= 1
        for amount in (placement.cpus, placement.gpus):
            assert amount >= 0
            assert amount == (round(amount) if amount >= 1 else round(amount, 4))
    assert sum(p.count * p.cpus for p in planned.placements.values()) <= cpus
    assert sum(p.count * p.gpus for p in planned.placements.values()) <= gpus + 1e-9
    assert planned.max_in_flight >= 1
    assert min(planned.media.threads, planned.speech.threads, planned.vision.threads) >= 1


@pytest.mark.parametrize("cpus", [1, 2, 3, 8, 64, 400])
@pytest.mark.parametrize("gpus", [0, 1, 4, 100])
def test_every_worker_can_be_placed(cpus: int, gpus: int) -> None:
    planned = plan(cpus, gpus)
    assert_placeable(planned, cpus, gpus)
    assert planned.speech.device == planned.vision.device == ("cuda" if gpus else "cpu")


@given(
    cpus=st.integers(1, 1000),
    gpus=st.integers(0, 12),
    transcriber_gpus=st.floats(0.05, 0.7),
    embedder_gpus=st.floats(0.05, 0.3),
)
def test_shares_of_a_card_are_never_given_twice(
    cpus: int, gpus: int, transcriber_gpus: float, embedder_gpus: float
) -> None:
    shares = {"transcriber_gpus": round(transcriber_gpus, 4), "embedder_gpus": round(embedder_gpus, 4)}
    assert_placeable(plan(cpus, gpus, **shares), cpus, gpus)


def test_more_cpus_never_mean_fewer_workers() -> None:
    counts = [plan(cpus).placements[WorkerKind.MEDIA].count for cpus in range(1, 129)]
    assert counts == sorted(counts)


def test_media_worker_works_while_another_waits() -> None:
    assert [plan(cpus).placements[WorkerKind.MEDIA].count for cpus in (1, 2, 4, 5, 16)] == [1, 2, 2, 2, 8]


def test_a_card_takes_an_embedder_and_what_fits_beside_it() -> None:
    assert counts(plan(64, 4)) == (4, 4)
    assert counts(plan(64, 4, transcriber_gpus=0.25)) == (12, 4)
    assert counts(plan(64, 1, transcriber_gpus=0.1, embedder_gpus=0.3)) == (7, 1)


def counts(planned: WorkerPlan) -> tuple[int, int]:
    placements = planned.placements
    return placements[WorkerKind.TRANSCRIBER].count, placements[WorkerKind.EMBEDDER].count


def test_explicit_counts_are_kept() -> None:
    planned = plan(8, media_workers=3, transcribers=5, embedders=2, writers=4, max_in_flight=9)
    assert {kind: placement.count for kind, placement in planned.placements.items()} == {
        WorkerKind.FETCHER: 1,
        WorkerKind.MEDIA: 3,
        WorkerKind.TRANSCRIBER: 5,
        WorkerKind.EMBEDDER: 2,
        WorkerKind.WRITER: 4,
    }
    assert planned.max_in_flight == 9
    assert_placeable(planned, 8, 0)


def test_far_too_many_workers_still_fit() -> None:
    assert_placeable(plan(1, media_workers=50, transcribers=50, embedders=50, writers=50), 1, 0)


@pytest.mark.parametrize(
    "settings",
    [
        {"transcriber_gpus": 1.0},
        {"transcribers": 2},
        {"transcribers": 8},
        {"embedders": 4, "embedder_gpus": 0.5},
    ],
)
def test_workers_that_fit_no_card_are_refused_at_once(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="do not fit on 1: lower HEIMDEX_TRANSCRIBER_GPUS"):
        plan(64, 1, **settings)


def test_shares_must_fit_on_single_cards() -> None:
    with pytest.raises(ConfigurationError, match="do not fit on 2"):
        plan(64, 2, transcribers=3, transcriber_gpus=0.6, embedder_gpus=0.1)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="HEIMDEX_DEVICE is cuda, but Ray sees no GPU"):
        plan(8, 0, device="cuda")


def test_on_the_cpu_no_card_is_reserved_though_there_are_some() -> None:
    planned = plan(8, 4, device="cpu")
    assert {placement.gpus for placement in planned.placements.values()} == {0.0}
    assert (planned.speech.device, planned.speech.compute_type, planned.speech.model) == ("cpu", "int8", "small")


def test_models_are_as_set_or_as_the_device_can_bear() -> None:
    assert plan(8, 1).speech.model == "large-v3-turbo"
    assert plan(8, 1).speech.compute_type == "float16"
    assert plan(8, whisper_model="bundled").speech.model == "bundled"
    planned = plan(8, clip_model="bundled", key_frame_px=300)
    assert (planned.vision.model, planned.vision.pretrained) == ("bundled", None)
    assert planned.vision.key_frame_px == planned.media.key_frame_px == 300


def test_worker_second_costs_its_share_of_a_card_or_threads() -> None:
    planned = plan(64, 4)
    assert planned.resource_share(WorkerKind.TRANSCRIBER) == 0.5
    assert planned.resource_share(WorkerKind.EMBEDDER) == 0.25
    assert planned.resource_share(WorkerKind.MEDIA) == planned.media.threads
    on_cpu = plan(8)
    assert on_cpu.resource_share(WorkerKind.TRANSCRIBER) == on_cpu.speech.threads
    assert on_cpu.resource_share(WorkerKind.WRITER) == 1.0


def test_limits_reach_the_media_workers() -> None:
    settings: Settings = load_settings(max_duration_s=5.0, max_bytes=7, max_streams=2, download_timeout_s=3.0)
    planned = plan_workers(settings, "postgresql://host/db", Hardware(2, 0, 2))
    assert (planned.media.media_limits.max_duration_s, planned.media.media_limits.max_streams) == (5.0, 2)
    assert (planned.fetch.limits.max_bytes, planned.fetch.limits.timeout_s) == (7, 3.0)
    assert planned.writer.database_url == "postgresql://host/db"


def test_settings_of_downloads_reach_the_fetchers() -> None:
    settings: Settings = load_settings(
        download_min_bytes_per_s=5, download_window_s=2.0, downloads_per_node=4, downloads_per_owner=3,
        download_owner_share=0.25,
    )  # fmt: skip
    planned = plan_workers(settings, "postgresql://host/db", Hardware(2, 0, 2))
    assert planned.fetch.limits.pace == Pace(5, 2.0)
    assert (planned.fetch_limit, planned.fetch.owner_share) == (FetchLimit(4, 3), 0.25)
    assert planned.fetch_deadline_s > planned.fetch.limits.timeout_s


def test_only_fetchers_are_given_the_storage_key() -> None:
    root = "https://storage.example.org/videos"
    planned = plan(2, storage_root=root, storage_key="secret")
    assert planned.root_is_remote
    assert planned.fetch.limits.storage_root == StorageRoot(root, "secret")
    assert planned.media.local_limits.storage_root == StorageRoot(root)
    assert not plan(2, storage_root="/videos").root_is_remote


def test_media_workers_hold_the_limits_while_they_decode(tmp_path: Path) -> None:
    path = write_video(tmp_path / "plain.mp4", [Shot(3.0, 1)])
    video = LocalVideo(path, path.stat().st_size, temporary=False)

    def calls(max_fps: float) -> Mapping[str, Callable[..., Any]]:
        return plan(2, max_fps=max_fps).loader(WorkerKind.MEDIA)().calls

    info = calls(60.0)["probe"](video)
    assert len(list(calls(60.0)["detect"](video, info))) == 1
    with pytest.raises(InvalidVideo, match="more than 5 pictures per second"):
        list(calls(5.0)["detect"](video, info))


def test_no_worker_reserves_more_than_half_of_the_largest_node() -> None:
    planned = plan_workers(
        load_settings(), "postgresql://host/db", Hardware(cpus=40.0, gpus=0.0, largest_node_cpus=4.0)
    )
    assert max(placement.cpus for placement in planned.placements.values()) <= 2.0
    assert (planned.speech.threads, planned.vision.threads) == (2, 2)


def test_vision_model_unset_is_the_default_of_the_device() -> None:
    for gpus, name, weights in ((0, "ViT-B-32", "laion2b_s34b_b79k"), (1, "ViT-B-16-SigLIP2-256", "webli")):
        vision = plan(8, gpus).vision
        assert (vision.model, vision.pretrained, vision.chosen) == (name, weights, False)
    chosen = plan(8, 1, clip_model="ViT-B-32").vision
    assert (chosen.model, chosen.pretrained, chosen.chosen) == ("ViT-B-32", "laion2b_s34b_b79k", True)
    assert plan(8, 1, device="cpu").vision.model == "ViT-B-32"
