"""Removes the pictures of videos that were forgotten: soon after, and once more when no worker can still be writing."""

import asyncio

from cluster.contracts.errors import TransientFailure
from cluster.contracts.events import Event
from cluster.files.scene_pictures import ScenePictures
from cluster.security.event_log import EventLog, FailingSteps
from cluster.store.videos.deletion import ForgottenPictures

logger = EventLog(__name__)

SWEEP_S = 5.0


class PictureSweep:
    """Works off what is due. What cannot be removed stays due."""

    def __init__(self, forgotten: ForgottenPictures, pictures: ScenePictures) -> None:
        self._forgotten = forgotten
        self._pictures = pictures
        self._failing = FailingSteps(logger)

    async def sweep_forever(self) -> None:
        """Every few seconds."""
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await asyncio.to_thread(self.sweep)
            except Exception as error:  # videos do not stop for it
                self._failing.note_failure(Event.PICTURE_SWEEP_FAILED, error, retry_s=SWEEP_S)
            else:
                self._failing.note_success(Event.PICTURE_SWEEP_FAILED)

    def sweep(self) -> None:
        """Remove what is due. Raises DatabaseUnavailable."""
        for video_id in self._forgotten.due():
            try:
                self._pictures.remove(video_id)
            except TransientFailure as error:
                logger.warning(Event.PICTURES_NOT_REMOVED, video_id=video_id, error=error)
            else:
                self._forgotten.note_removed(video_id)
