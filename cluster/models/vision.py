"""The vision model: pictures and words into one space, by open_clip.

Owns finding, loading and asking a CLIP, SigLIP or PE: by architecture and pretrained tag, from a local directory, or
the bundled one, all through the same code. Leaves batching across videos, measuring and devices' numbers to the
callers. Where the tokenizer comes from is ``tokenizers``'.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import torch
from huggingface_hub import try_to_load_from_cache
from open_clip.pretrained import download_pretrained_from_hf
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors import SafetensorError
from torchvision.transforms import CenterCrop, Normalize, Resize

from cluster.contracts.errors import ConfigurationError
from cluster.models.bundled import bundled_vision_directory
from cluster.models.device_errors import device_errors
from cluster.models.labels import CLIP_SCALE, LabelScale, SigmoidScale
from cluster.models.read_ahead import read_ahead
from cluster.models.sources import content_hash, hub_answers, hub_has, split_revision
from cluster.models.tokenizers import load_tokenizer

_BATCH = 256
"""Most pictures or sentences that the model is given at once."""
_HUB_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
_REMEDY = "set HEIMDEX_CLIP_MODEL to a directory with an open_clip model, or to bundled"
_LOADING_FAILED = (RuntimeError, ValueError, OSError, KeyError, TypeError, UnpicklingError, SafetensorError)
_PREPROCESS_KEYS = ("mean", "std", "interpolation", "resize_mode")

Embeddings = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Source:
    """Where a model comes from: open_clip's name for it, its weights, and what a scene's row calls it."""

    architecture: str
    weights: Path | None
    name: str
    version: str
    overrides: dict[str, Any]


class VisionModel:
    """A loaded CLIP; its embeddings are float32 rows of length 1, comparable by dot product.

    `name` and `version` identify the weights, `image_size_px` is the side of the square input,
    `dimensions` the length of a row, `label_scale` what makes shares of cosines, `device` where it runs.
    """

    def __init__(self, source: _Source, device: str, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.name, self.version = source.name, source.version
        self.device = device
        self._tokenizer = load_tokenizer(source.architecture, source.name)
        self._model: Any = _created(source, device)
        self.label_scale = _label_scale(self._model)
        preprocess = PreprocessCfg(**open_clip.get_model_preprocess_cfg(self._model))
        self.image_size_px: int = preprocess.input_size[-1]
        self._preprocess = image_transform_v2(preprocess, is_train=False)
        # On a CPU, one by one is quicker: Pillow resizes bytes, and torch floats.
        on_device = device.startswith("cuda") and preprocess.resize_mode != "longest"
        self._loader = _DeviceLoader(self._preprocess, self.image_size_px, device) if on_device else None
        self.dimensions: int = self.encode_texts([""]).shape[1]

    @property
    def key(self) -> str:
        """What a stored embedding calls the model that made it: only vectors of one key can be compared."""
        return f"{self.name}@{self.version}"

    def encode_images(self, pixels: Sequence[Picture]) -> Embeddings:
        """Embed RGB pictures (height, width, 3; uint8; any size) as the model's config says: (n, dimensions)."""
        batches = (pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH))
        rows = list(self.encode_batches(batches))
        return np.concatenate(rows) if rows else np.zeros((0, self.dimensions), np.float32)

    def encode_batches(self, batches: Iterator[Sequence[Picture]]) -> Iterator[Embeddings]:
        """Embed batch after batch. On a GPU, the next one is fetched and made ready while one is computed."""
        prepared = map(self._prepared, batches)
        for pictures in prepared if self._loader is None else read_ahead(prepared):
            with torch.inference_mode(), self._half_precision(), device_errors():
                rows = self._model.encode_image(pictures)
            yield self._normalised([rows])

    def _prepared(self, pictures: Sequence[Picture]) -> torch.Tensor:
        """float32[n, 3, side, side] on the device."""
        if self._loader is not None:
            with device_errors():
                return self._loader.load(pictures)
        return torch.stack([self._preprocess(Image.fromarray(picture)) for picture in pictures])

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Embed sentences or labels: (n, dimensions)."""
        rows = []
        for start in range(0, len(texts), _BATCH):
            tokens = self._tokenizer(list(texts[start : start + _BATCH])).to(self.device)
            with torch.inference_mode(), self._half_precision(), device_errors():
                rows.append(self._model.encode_text(tokens))
        return self._normalised(rows)

    def _half_precision(self) -> AbstractContextManager[Any]:
        return torch.autocast("cuda", torch.float16) if self.device.startswith("cuda") else nullcontext()

    def _normalised(self, rows: list[torch.Tensor]) -> Embeddings:
        if not rows:
            return np.zeros((0, self.dimensions), np.float32)
        whole = torch.nn.functional.normalize(torch.cat(rows).float(), dim=-1)
        array: Embeddings = whole.cpu().numpy()
        return array


class _DeviceLoader:
    """open_clip's steps for one picture, on a GPU and for all pictures of one size together.

    Works on a stream of its own: while the model computes, the next pictures are copied and resized.
    """

    def __init__(self, preprocess: Any, side_px: int, device: str) -> None:
        self._steps = list(_batch_steps(preprocess))
        self._side_px = side_px
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.startswith("cuda") else None

    def load(self, pictures: Sequence[Picture]) -> torch.Tensor:
        """float32[n, 3, side, side], ready for any stream."""
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            loaded = torch.empty(len(pictures), 3, self._side_px, self._side_px, device=self._device)
            by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
            for number, picture in enumerate(pictures):
                by_shape[picture.shape].append(number)
            for shape, numbers in by_shape.items():
                # Pinned memory can be copied while the GPU computes.
                stacked = torch.empty(len(numbers), *shape, dtype=torch.uint8, pin_memory=self._stream is not None)
                np.stack([pictures[number] for number in numbers], out=stacked.numpy())
                images = stacked.to(self._device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
                for step in self._steps:
                    images = step(images)
                loaded[torch.tensor(numbers, device=self._device)] = images
            if self._stream is not None:
                self._stream.synchronize()
        return loaded


def _batch_steps(preprocess: Any) -> Iterator[Callable[[torch.Tensor], torch.Tensor]]:
    """open_clip's steps for one picture, as they work on many at once.

    What brings a picture into a tensor is left out; resizing overshoots at edges, which a picture of bytes cannot hold.
    """
    for step in preprocess.transforms:
        if isinstance(step, Resize | CenterCrop | Normalize):
            yield step
        if isinstance(step, Resize):
            yield lambda images: images.clamp(0.0, 1.0)


def load_vision_model(name: str, pretrained: str | None, device: str, threads: int | None = None) -> VisionModel:
    """Load a CLIP on `device`: `name` is "bundled", a directory with an open_clip model, or an architecture.

    `pretrained` is a tag ("laion2b_s34b_b79k", with "@revision" if wanted) or a weights file, for an
    architecture only; `threads` sets
    torch's CPU threads for this process, None leaves them alone. Raises ConfigurationError when the model
    is unknown, or its hub cannot be reached (asked once, never waited for).
    """
    if name == "bundled":
        source = _directory_source(bundled_vision_directory(), name)
    elif Path(name).is_dir():
        source = _directory_source(Path(name), Path(name).resolve().name)
    else:
        source = _architecture_source(name, pretrained)
    return VisionModel(source, device, threads)


def is_available(name: str, pretrained: str | None) -> bool:
    """Whether the weights of an architecture are on this machine or at the hub; nothing is downloaded.

    True for weights that are published elsewhere: only loading shows whether they can be had. Raises ConfigurationError
    where there is no such architecture, or it has no such weights.
    """
    _check_known(name)
    if pretrained is not None and Path(pretrained).is_file():
        return True
    config, revision = _pretrained_config(name, pretrained)
    repository, _, filename = str(config.get("hf_hub", "")).rpartition("/")
    if not repository or _cached_weights(config, revision) is not None:
        return True
    return hub_has(repository, (filename,) if filename else _HUB_WEIGHTS, revision)


def _created(source: _Source, device: str) -> torch.nn.Module:
    try:
        model: torch.nn.Module = open_clip.create_model(
            source.architecture,
            pretrained=None if source.weights is None else str(source.weights),
            device=device,
            require_pretrained=True,
            **source.overrides,
        )
    except _LOADING_FAILED as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigurationError(f"vision model {source.name} cannot be loaded: {reason}") from error
    return model.eval()


def _label_scale(model: Any) -> LabelScale:
    """SigLIP's own scale and bias; the constants of CLIP for a model without a trained bias."""
    bias = getattr(model, "logit_bias", None)
    if bias is None or not bool(bias):  # open_clip puts 0 where the weights have none
        return CLIP_SCALE
    return SigmoidScale(model.logit_scale.exp().item(), bias.item())


def _directory_source(directory: Path, name: str) -> _Source:
    weights = [path for path in sorted(directory.iterdir()) if path.suffix in (".safetensors", ".bin", ".pth")]
    if not weights or not (directory / "open_clip_config.json").is_file():
        raise ConfigurationError(
            f"HEIMDEX_CLIP_MODEL={directory}: not an open_clip model "
            "(it needs open_clip_config.json and a weights file, .safetensors or .bin)"
        )
    return _Source(f"local-dir:{directory}", None, name, content_hash(weights), {})


def _architecture_source(name: str, pretrained: str | None) -> _Source:
    _check_known(name)
    if pretrained is not None and Path(pretrained).is_file():
        weights = Path(pretrained)
        prepared = {"force_preprocess_cfg": _usual_preprocess(name)}
        return _Source(name, weights, f"{name}/{weights.stem}", content_hash([weights]), prepared)
    config, revision = _pretrained_config(name, pretrained)
    preprocess = {key: config[key] for key in _PREPROCESS_KEYS if key in config}
    overrides: dict[str, Any] = {"force_preprocess_cfg": preprocess, "force_quick_gelu": bool(config.get("quick_gelu"))}
    label = f"{name}/{pretrained}"
    return _Source(name, _hub_weights(config, label, revision), label, str(pretrained), overrides)


def _check_known(name: str) -> None:
    if name not in open_clip.list_models():
        known = "neither a directory, nor bundled, nor an architecture that open_clip knows"
        raise ConfigurationError(f"HEIMDEX_CLIP_MODEL={name}: {known}")


def _pretrained_config(name: str, pretrained: str | None) -> tuple[dict[str, Any], str | None]:
    """What open_clip knows of a pretrained tag, and the revision at the hub that is asked for."""
    tag, revision = split_revision(pretrained or "")
    config = open_clip.get_pretrained_cfg(name, tag) if tag else {}
    if not config:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise ConfigurationError(
            f"HEIMDEX_CLIP_PRETRAINED={pretrained or ''}: {name} has these pretrained tags: {tags}"
        )
    return config, revision


def _usual_preprocess(architecture: str) -> dict[str, Any]:
    """How pictures are prepared for all published weights of an architecture; nothing where these differ."""
    configs = [
        open_clip.get_pretrained_cfg(architecture, tag) for tag in open_clip.list_pretrained_tags_by_model(architecture)
    ]
    found = [{key: config[key] for key in _PREPROCESS_KEYS if key in config} for config in configs]
    return found[0] if found and all(one == found[0] for one in found) else {}


def _cached_weights(config: dict[str, Any], revision: str | None) -> Path | None:
    """The weights file of a pretrained tag in the hub's local cache."""
    repository, _, filename = str(config.get("hf_hub", "")).rpartition("/")
    for candidate in (filename,) if filename else _HUB_WEIGHTS:
        cached = try_to_load_from_cache(repository, candidate, revision=revision) if repository else None
        if isinstance(cached, str):
            return Path(cached)
    return None


def _hub_weights(config: dict[str, Any], label: str, revision: str | None) -> Path:
    """The weights file of a pretrained tag: from the local cache, else from a hub that answers at once."""
    repository, _, filename = str(config.get("hf_hub", "")).rpartition("/")
    if revision and not repository:
        raise ConfigurationError(f"vision model {label}: its weights are not at the hub, which alone has revisions")
    cached = _cached_weights(config, revision)
    if cached is not None:
        return cached
    unreachable = ConfigurationError(f"vision model {label}: the model hub could not be reached; {_REMEDY}")
    if repository and not hub_answers():
        raise unreachable
    try:
        if repository:
            return Path(download_pretrained_from_hf(repository, filename or None, revision))
        return Path(open_clip.download_pretrained(config))
    except Exception as error:  # the hub's client raises its HTTP library's own types, which differ by version
        raise unreachable from error
