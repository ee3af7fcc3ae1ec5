"""Zero-shot labels: groups of words of which a picture shows at most one each, and how sure a model must be of one.

A label file has one label per line; an empty line begins the next group; lines that begin with # are comments.
"""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cluster.contracts.errors import ConfigurationError
from cluster.models.bundled import labels_file

LabelGroup = tuple[str, ...]


class LabelScale(Protocol):
    """What makes of cosines how sure a model is of labels; a label is a tag from ``threshold`` on."""

    @property
    def threshold(self) -> float:
        """In (0, 1)."""
        ...

    def shares(self, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of float32[pictures, labels of a group], as many numbers in [0, 1]."""
        ...


@dataclass(frozen=True)
class SoftmaxScale:
    """Of models that were trained to choose one caption among many: a label's share of its group."""

    scale: float
    threshold: float = 0.3

    def shares(self, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`LabelScale`."""
        logits = self.scale * cosines
        shares: NDArray[np.float32] = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        return shares


@dataclass(frozen=True)
class SigmoidScale:
    """Of models that were trained to judge each caption alone (SigLIP): how likely the label fits the picture.

    The bias is that of one right caption among thousands, so right ones score low: 0.2 for "2 cats" of two cats.
    """

    scale: float
    bias: float
    threshold: float = 0.1

    def shares(self, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`LabelScale`."""
        logits = np.clip(self.scale * cosines + self.bias, -80.0, 80.0)  # beyond, exp leaves float32
        shares: NDArray[np.float32] = (1.0 / (1.0 + np.exp(-logits))).astype(np.float32)
        return shares


CLIP_SCALE = SoftmaxScale(100.0)
"""CLIP's learned temperature at its upper bound, which its published models all reach."""


def load_labels(path: Path | None, vision_model: str) -> list[LabelGroup]:
    """The groups of ``path``, or the default list of the vision model (``bundled`` has one of its own).

    Raises:
        ConfigurationError: the file cannot be read or holds no label.
    """
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"HEIMDEX_LABELS_FILE: {path} cannot be read: {error}") from None
    elif vision_model == "bundled":
        text = labels_file().read_text(encoding="utf-8")
    else:
        text = files("cluster.models").joinpath("labels.txt").read_text(encoding="utf-8")
    groups = parse_labels(text)
    if not groups:
        raise ConfigurationError(f"HEIMDEX_LABELS_FILE: {path} holds no label; it takes one per line")
    return groups


def parse_labels(text: str) -> list[LabelGroup]:
    """The groups in the text of a label file."""
    groups: list[list[str]] = [[]]
    for line in text.splitlines():
        label = line.strip()
        if label.startswith("#"):
            continue
        if label:
            groups[-1].append(label)
        elif groups[-1]:
            groups.append([])
    return [tuple(group) for group in groups if group]
