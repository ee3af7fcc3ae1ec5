"""``heimdex tags``: what `heimdex search --tag` can ask for."""

from typing import Annotated
from uuid import UUID

import typer

from cluster.cli.terminal import out, out_json
from cluster.contracts.counts import form
from cluster.runtime import launch
from cluster.settings import load_settings
from cluster.store.postgres.connections import open_pool
from cluster.store.videos.tags import count_tags


def tags(
    prefix: Annotated[str, typer.Argument(help="Only tags that begin so, or have a word that does.")] = "",
    owner: Annotated[
        UUID | None, typer.Option(metavar="UUID", help="Whose scenes; default: the owner of this data directory.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many, those of most scenes first.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array on standard output.")] = False,
) -> None:
    """List the tags of scenes with the number of scenes and videos that have them: what `search --tag` takes."""
    settings = load_settings()
    with launch.open_database(settings) as url, open_pool(url, max_size=1, name="heimdex-tags") as pool:
        found = count_tags(pool, owner or settings.resolved_owner_id, prefix, limit)
    if as_json:
        out_json(found)
        return
    for row in found:
        scenes, videos = (form(row[each], each[:-1] + " ", each) for each in ("scenes", "videos"))
        out(f"{row['scenes']:6} {scenes}  {row['videos']:5} {videos}  {row['tag']}")
    if not found:
        out("No scene has such a tag." if prefix else "No scene has a tag.")
