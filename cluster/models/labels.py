"""Zero-shot labels: groups of words of which a picture shows at most one each.

A label file has one label per line; an empty line begins the next group; lines that begin with # are comments.
"""

from importlib.resources import files
from pathlib import Path

from cluster.contracts.errors import ConfigurationError

LabelGroup = tuple[str, ...]


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
        text = files("cluster.demo").joinpath("labels.txt").read_text(encoding="utf-8")
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
