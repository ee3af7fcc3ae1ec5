"""What one owner may ask for: videos within a minute, and quotas of videos, hours, bytes and work in flight."""

from dataclasses import dataclass

UNTIMED_S = 3600.0
"""The length that a video counts as when its packets do not state one."""
DAY_H = 24.0
MOST_PERIOD_H = 31 * DAY_H
"""The longest period of a quota: requests are kept for so long."""


@dataclass(frozen=True)
class OwnerQuotas:
    """What is processed for one owner within ``period_h`` hours, and at once (``in_flight``); None: no limit.

    Every request counts, a repeated one of the same video too, whatever becomes of the video.
    """

    videos: int | None = None
    hours: float | None = None
    size_bytes: int | None = None
    in_flight: int | None = None
    period_h: float = DAY_H

    @property
    def measures(self) -> bool:
        """Whether a quota counts what is known of a video only once it has been read."""
        return self.hours is not None or self.size_bytes is not None

    @property
    def counts_back(self) -> bool:
        """Whether a quota counts what was asked for before."""
        return self.videos is not None or self.measures


NO_QUOTAS = OwnerQuotas()


@dataclass(frozen=True)
class SubmissionLimits:
    """What an owner may ask for. ``per_minute``: videos within a minute; None: no limit."""

    per_minute: int | None = None
    quotas: OwnerQuotas = NO_QUOTAS


NO_LIMITS = SubmissionLimits()
