"""The status of a video as this product shows it: the four states of the database, and CANCELLED.

A cancelled video is FAILED in ``videos``, whose states others know; ``video_processing.cancelled_at`` separates it from
one that failed. The same is said in SQL for the figures (migration 031).
"""

from typing import LiteralString

SHOWN_STATUS: LiteralString = (
    "CASE WHEN v.status = 'FAILED' AND p.cancelled_at IS NOT NULL THEN 'CANCELLED' ELSE v.status::text END"
)
"""Of ``videos AS v`` with the row of ``video_processing AS p`` that it may have, as text."""
