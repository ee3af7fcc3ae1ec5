"""Configurations of workers and their shares of the cluster: small, plain, handed to the workers' constructors.

Models do not: each worker loads its own.
"""

from dataclasses import dataclass, field
from pathlib import Path

from actors.workers.fetch_slots import FetchLimit
from cluster.contracts.media import MediaLimits
from cluster.contracts.search import EngineAddress
from cluster.files.storage import FetchLimits

KEY_FRAMES_PER_BATCH = {"cpu": 32, "cuda": 256}
"""Pictures that the vision model computes at once, by device: a CPU gains nothing from more."""


@dataclass(frozen=True)
class FetchConfig:
    """Settings of a fetcher: limits, the key of the storage root among them, and where downloads go.

    ``owner_share``: what one owner's downloads may take of the disk; ``limit``: how many run at once.
    """

    limits: FetchLimits
    scratch_dir: Path
    owner_share: float
    limit: FetchLimit


@dataclass(frozen=True)
class MediaConfig:
    """Settings of a media worker: limits, where files of this machine may be, how key frames are cut, decoder threads.

    It opens nothing but files: it is given no key. ``copies_dir``: where small files are copied for their decoder;
    None: all are read in place.
    """

    media_limits: MediaLimits
    local_limits: FetchLimits
    key_frame_px: int
    threads: int
    copies_dir: Path | None = None


@dataclass(frozen=True)
class SpeechConfig:
    """Settings of a transcriber: what it loads, and where."""

    model: str
    device: str
    compute_type: str
    threads: int
    beam_size: int


@dataclass(frozen=True)
class VisionConfig:
    """What an embedder loads, and where, unless ``database_url`` says that other models are active by now.

    ``chosen``: whether the vision model was set; a default gives way to any active one.
    """

    model: str
    pretrained: str | None
    chosen: bool
    device: str
    threads: int
    labels_file: Path | None
    key_frame_px: int
    text_model: str
    database_url: str = field(repr=False)


@dataclass(frozen=True)
class WriterConfig:
    """Where scenes are written: rows and pictures, and the engine beside Postgres that finds them, if there is one."""

    database_url: str = field(repr=False)
    scenes_url: str = field(repr=False)
    engine: EngineAddress | None = None


@dataclass(frozen=True)
class Placement:
    """Number of workers of a kind, and the share of the cluster that Ray reserves for each."""

    count: int
    cpus: float
    gpus: float = 0.0
