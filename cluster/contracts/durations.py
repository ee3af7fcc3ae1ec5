"""Durations as people read them."""


def duration_text(duration_s: float) -> str:
    """A duration by its two largest units: 2 h 5 min, 2 min 5 s."""
    minutes, seconds = divmod(round(duration_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def time_code(seconds: float) -> str:
    """Seconds as players show them, to the tenth: 1:02:03.4, or 2:03.4 within the first hour."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
