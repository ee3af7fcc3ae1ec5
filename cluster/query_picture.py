"""A picture that somebody searches by, read with care."""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 50_000_000
SIDE_PX = 1024
"""No vision model looks closer."""
FORMATS = ("JPEG", "PNG", "WEBP")


def read_picture(data: bytes) -> NDArray[np.uint8]:
    """RGB, uint8[height, width, 3], upright, at most 1024 on a side.

    Raises:
        ValueError: it is empty, of another format, broken, or has more than 50 million pixels; the text says which.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # larger ones are refused below
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(f"it has more than {MAX_PIXELS:,} pixels")
                image.draft("RGB", (SIDE_PX, SIDE_PX))
                upright = ImageOps.exif_transpose(image).convert("RGB")
    except UnidentifiedImageError:
        raise ValueError(f"it is none of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise ValueError(f"it has more than {MAX_PIXELS:,} pixels") from None
    except (OSError, SyntaxError) as error:
        raise ValueError(str(error).splitlines()[0] if str(error) else "it is broken") from None
    upright.thumbnail((SIDE_PX, SIDE_PX))
    return np.asarray(upright, np.uint8)
