"""What torch says of a GPU, by what it means for the process."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cluster.contracts.errors import DeviceFailure, TransientFailure


@contextmanager
def device_errors() -> Iterator[None]:
    """A GPU's errors by what they mean: full for now, or unusable until the process has ended."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TransientFailure(f"the GPU's memory is full: {error}") from error
    except torch.AcceleratorError as error:
        raise DeviceFailure(f"the GPU reported an error: {error}") from error
