"""Which models made the vectors that are stored: what one model embeds means nothing to another."""

from psycopg import sql

from cluster.contracts.errors import ConfigurationError
from cluster.contracts.search import By
from cluster.store.database import Pool
from cluster.store.scene_vectors import EMBEDDINGS

_SETTINGS = {By.PICTURE: "HEIMDEX_CLIP_MODEL and HEIMDEX_CLIP_PRETRAINED", By.MEANING: "HEIMDEX_TEXT_MODEL"}


def check_models(pool: Pool, keys: dict[By, str]) -> None:
    """Make sure that queries of these models, by their keys, have vectors to be compared with.

    Raises:
        ConfigurationError: all that is stored was made by another model.
    """
    for by, key in keys.items():
        other = _only_other(pool, by, key)
        if other is not None:
            raise ConfigurationError(
                f"all scenes are indexed by {by} with {other}, not with {key}: set {_SETTINGS[by]} to that model again"
            )


def _only_other(pool: Pool, by: By, key: str) -> str | None:
    """Another model whose vectors there are, while there are none of this one's."""
    statement = sql.SQL(
        "SELECT model FROM (SELECT min(model) AS model FROM {vectors}) AS first "
        "WHERE model IS NOT NULL AND NOT EXISTS (SELECT FROM {vectors} WHERE model = %s)"
    ).format(vectors=EMBEDDINGS[by])
    with pool.connection() as connection:
        row = connection.execute(statement, (key,)).fetchone()
    return None if row is None else str(row["model"])
