"""From settings and hardware to the workers of a cluster: which models, how many workers, what Ray reserves."""

import hashlib
import math
from dataclasses import dataclass

from actors.workers.catalog import WorkerPlan, counts_for
from actors.workers.configs import FetchConfig, MediaConfig, Placement, SpeechConfig, VisionConfig, WriterConfig
from actors.workers.fetch_slots import FetchLimit
from cluster.contracts.errors import ConfigurationError
from cluster.contracts.media import MediaLimits
from cluster.contracts.stages import WorkerKind
from cluster.files.fetch_limits import fetch_limits
from cluster.settings import Settings

RESERVED_SHARE = 0.8
"""Of the CPUs, what workers reserve together at most; the rest is for Serve and for reading manifests."""
WRITER_CPUS = 0.25
GPU_WORKER_CPUS = 0.5
COPIES = "decoding"
"""The folder of small files that are decoded, below the one for downloads."""
IN_FLIGHT_PER_MEDIA_WORKER = 64
"""Short videos that are on their way at once; of long ones, ``actors.scheduler.admission`` claims fewer."""


@dataclass(frozen=True)
class Hardware:
    """What Ray has: CPUs and GPUs of the whole cluster, and the CPUs of its largest node (a worker lives on one)."""

    cpus: float
    gpus: float
    largest_node_cpus: float

    @staticmethod
    def of_cluster() -> "Hardware":
        """The hardware of the Ray cluster that this process is connected to."""
        import ray

        resources = ray.cluster_resources()
        nodes = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
        return Hardware(resources.get("CPU", 0.0), resources.get("GPU", 0.0), max(nodes, default=0.0))


def plan_workers(settings: Settings, database_url: str, hardware: Hardware) -> WorkerPlan:
    """The workers that ``settings`` ask for on ``hardware``.

    Raises:
        ConfigurationError: a GPU is asked for and there is none, or the workers do not fit on those there are.
    """
    device = device_for(settings, hardware)
    clip_model, clip_pretrained = settings.clip_on(device)
    gpus = hardware.gpus if device == "cuda" else 0.0
    counts = _counts(settings, hardware, gpus)
    if gpus and settings.ray_address is None:  # elsewhere, an autoscaler may add machines
        _check_cards(settings, counts, int(gpus))
    # Half of the cores decode, half recognise speech; vision is short and takes what is free. What one worker takes
    # has to be free on one node, beside others.
    half = max(1, int(hardware.cpus) // 2)
    most = max(1, int(hardware.largest_node_cpus) // 2)
    speech_threads = min(most, max(1, half // counts[WorkerKind.TRANSCRIBER])) if device == "cpu" else 4
    vision_threads = min(most, max(1, half // counts[WorkerKind.EMBEDDER])) if device == "cpu" else 2
    limits = fetch_limits(settings)
    return WorkerPlan(
        fetch=FetchConfig(
            limits=limits,
            scratch_dir=settings.resolved_scratch_dir / _mark(database_url),
            owner_share=settings.download_owner_share,
            limit=FetchLimit(settings.downloads_per_node, settings.downloads_per_owner),
        ),
        media=MediaConfig(
            media_limits=_media_limits(settings),
            local_limits=limits.without_key(),
            key_frame_px=settings.key_frame_px,
            threads=min(most, max(1, half // counts[WorkerKind.MEDIA])),
            copies_dir=settings.resolved_scratch_dir / COPIES,
        ),
        speech=SpeechConfig(
            model=settings.speech_on(device),
            device=device,
            compute_type="float16" if device == "cuda" else "int8",
            threads=speech_threads,
            beam_size=settings.beam_size,
        ),
        vision=VisionConfig(
            model=clip_model,
            pretrained=clip_pretrained,
            chosen=settings.clip_is_chosen,
            device=device,
            threads=vision_threads,
            labels_file=settings.labels_file,
            key_frame_px=settings.key_frame_px,
            text_model=settings.text_model,
            database_url=database_url,
        ),
        writer=WriterConfig(database_url, settings.resolved_scenes_url, settings.search_engine),
        placements=_placements(settings, counts, hardware.cpus, speech_threads, vision_threads, gpus),
        max_in_flight=settings.max_in_flight or IN_FLIGHT_PER_MEDIA_WORKER * counts[WorkerKind.MEDIA],
    )


def _mark(database_url: str) -> str:
    """Identifies the downloads of one cluster on a shared machine: clusters with one database share them."""
    return hashlib.sha256(database_url.encode()).hexdigest()[:12]


def device_for(settings: Settings, hardware: Hardware) -> str:
    """Where models run: ``cpu`` or ``cuda``. Raises ConfigurationError when there is no GPU and one is asked for."""
    if settings.device == "cuda" and hardware.gpus < 1:
        raise ConfigurationError("HEIMDEX_DEVICE is cuda, but Ray sees no GPU: set it to auto or cpu")
    if settings.device == "auto":
        return "cuda" if hardware.gpus >= 1 else "cpu"
    return settings.device


def _counts(settings: Settings, hardware: Hardware, gpus: float) -> dict[WorkerKind, int]:
    counts = counts_for(hardware.cpus, gpus, settings.transcriber_gpus, settings.embedder_gpus)
    asked = {
        WorkerKind.MEDIA: settings.media_workers,
        WorkerKind.TRANSCRIBER: settings.transcribers,
        WorkerKind.EMBEDDER: settings.embedders,
        WorkerKind.WRITER: settings.writers,
    }
    return {kind: asked[kind] or count for kind, count in counts.items()}


def _check_cards(settings: Settings, counts: dict[WorkerKind, int], cards: int) -> None:
    """Ray would wait indefinitely for a share of a GPU that no card has left."""
    while settings.transcribers is None and counts[WorkerKind.TRANSCRIBER] > 1 and not _fit(settings, counts, cards):
        counts[WorkerKind.TRANSCRIBER] -= 1
    if not _fit(settings, counts, cards):
        raise ConfigurationError(
            f"{counts[WorkerKind.TRANSCRIBER]} Whisper workers with {settings.transcriber_gpus:g} and "
            f"{counts[WorkerKind.EMBEDDER]} vision workers with {settings.embedder_gpus:g} of a GPU do not fit on "
            f"{cards}: lower HEIMDEX_TRANSCRIBER_GPUS, HEIMDEX_EMBEDDER_GPUS or the number of the workers"
        )


def _fit(settings: Settings, counts: dict[WorkerKind, int], cards: int) -> bool:
    """Whether the workers find room, whichever kind comes first: each takes the fullest card that has room for it."""
    speech = [settings.transcriber_gpus] * counts[WorkerKind.TRANSCRIBER]
    vision = [settings.embedder_gpus] * counts[WorkerKind.EMBEDDER]
    return all(_pack(order, cards) for order in (speech + vision, vision + speech))


def _pack(shares: list[float], cards: int) -> bool:
    left = [1.0] * cards
    for share in shares:
        card = min((c for c in range(cards) if left[c] >= share - 1e-9), key=left.__getitem__, default=None)
        if card is None:
            return False
        left[card] -= share
    return True


def _placements(
    settings: Settings,
    counts: dict[WorkerKind, int],
    cpus: float,
    speech_threads: int,
    vision_threads: int,
    gpus: float,
) -> dict[WorkerKind, Placement]:
    """CPU shares are scaled down together when the workers would reserve more than the cluster has."""
    wanted = {
        WorkerKind.MEDIA: 1.0,
        WorkerKind.TRANSCRIBER: GPU_WORKER_CPUS if gpus else float(speech_threads),
        WorkerKind.EMBEDDER: GPU_WORKER_CPUS if gpus else float(vision_threads),
        WorkerKind.WRITER: WRITER_CPUS,
    }
    scale = min(1.0, RESERVED_SHARE * cpus / sum(counts[kind] * wanted[kind] for kind in counts))
    fractions = {WorkerKind.TRANSCRIBER: settings.transcriber_gpus, WorkerKind.EMBEDDER: settings.embedder_gpus}
    placements = {
        kind: Placement(count, _reservable(wanted[kind] * scale), fractions.get(kind, 0.0) if gpus else 0.0)
        for kind, count in counts.items()
    }
    return {WorkerKind.FETCHER: Placement(1, 0.0), **placements}  # on each node; it waits for sockets


def _reservable(cpus: float) -> float:
    """Rounded down to what Ray can reserve: whole CPUs, or below one four decimals."""
    return float(math.floor(cpus)) if cpus >= 1 else math.floor(cpus * 10_000) / 10_000


def _media_limits(settings: Settings) -> MediaLimits:
    return MediaLimits(
        max_duration_s=settings.max_duration_s,
        max_pixels=settings.max_pixels,
        max_fps=settings.max_fps,
        max_streams=settings.max_streams,
        max_bytes=settings.max_bytes,
    )
