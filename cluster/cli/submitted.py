"""What a person needs to go on with videos that were just submitted: their ids, and their batch's name."""

from collections.abc import Sequence

from cluster.cli.terminal import out
from cluster.contracts.uris import filename_of
from cluster.store.queue.known_videos import Submitted

MOST_SHOWN = 20
"""Videos whose ids are printed; of more, `heimdex list` prints them."""


def print_submitted(submitted: Submitted, uris: Sequence[str], batch: str) -> None:
    """Print each video's whole id with its name, and how to watch and list the batch of the new ones."""
    ids = submitted.ids
    for video_id, uri in list(zip(ids, uris, strict=True))[:MOST_SHOWN]:
        out(f"{video_id}  {filename_of(uri)}")
    if len(ids) > MOST_SHOWN:
        out(f"and {len(ids) - MOST_SHOWN} more")
    if submitted.new:
        out(f'batch {batch}:  heimdex list --batch "{batch}"   heimdex watch --batch "{batch}"')
