"""Removes the pictures of videos that were forgotten: soon after, and once more when no worker can still be writing."""

import asyncio
import logging

from cluster.contracts.errors import DatabaseUnavailable, TransientFailure
from cluster.files.scene_pictures import ScenePictures
from cluster.store.videos.deletion import ForgottenPictures

logger = logging.getLogger(__name__)

SWEEP_S = 5.0


class PictureSweep:
    """Works off what is due. What cannot be removed stays due."""

    def __init__(self, forgotten: ForgottenPictures, pictures: ScenePictures) -> None:
        self._forgotten = forgotten
        self._pictures = pictures

    async def sweep_forever(self) -> None:
        """Every few seconds."""
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await asyncio.to_thread(self.sweep)
            except DatabaseUnavailable as error:
                logger.warning("no pictures are removed: %s", error)
            except Exception:  # videos do not stop for it
                logger.exception("no pictures are removed")

    def sweep(self) -> None:
        """Remove what is due. Raises DatabaseUnavailable."""
        for video_id in self._forgotten.due():
            try:
                self._pictures.remove(video_id)
            except TransientFailure as error:
                logger.warning("%s", error)
            else:
                self._forgotten.note_removed(video_id)
