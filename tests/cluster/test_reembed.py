"""Other models for what is stored, on a real Ray: searched by the old ones until all have changed, whatever happens."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import ray

from cluster.cli.reembed_command import drop_old_vectors
from cluster.contracts.errors import ConfigurationError, ModelChanged
from cluster.contracts.search import ModelKeys, Retriever, Scope
from cluster.models.text import load_text_model
from cluster.models.vision import load_vision_model
from cluster.reembed.run import Outcome, ReembedRequest, reembed
from cluster.search.active_models import ModelName
from cluster.search.query_models import ModelLoaders, QueryModels
from cluster.search.service import SearchRequest, SearchService
from cluster.settings import Settings, load_settings
from cluster.store.index.model_registry import IndexedModel, SearchModels, State
from cluster.store.opensearch.client import open_client
from cluster.store.opensearch.rebuild import SearchIndexes
from cluster.store.opensearch.sync import FollowedIndex, IndexFollower
from cluster.store.opensearch.verify import IndexCheck
from cluster.store.postgres.connections import Pool
from cluster.store.search.engines import index_opener
from tests.support.made_models import text_model_of, vision_model_of
from tests.support.small_ray import small_ray
from tests.support.stored_scenes import bundled_models, store_clips
from tests.support.stored_vectors import stored_vectors

OWNER = UUID(int=1)
QUERY = "a red circle in front of the sea"
BUNDLED = ModelName("bundled")

# Ray Data's own, when it reads its own defaults.
pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings(r"ignore:`use_\w+` is deprecated:DeprecationWarning"),
]


@dataclass(frozen=True)
class Others:
    """Directories with other models, whose vectors are longer than the bundled ones'."""

    vision: Path
    text: Path

    @property
    def wish(self) -> ReembedRequest:
        return ReembedRequest(
            {Retriever.PICTURE: ModelName(str(self.vision)), Retriever.MEANING: ModelName(str(self.text))}
        )


@pytest.fixture(scope="module", autouse=True)
def ray_of_this_module() -> Iterator[None]:
    with small_ray():
        yield


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Others:
    folder = tmp_path_factory.mktemp("models")
    return Others(vision_model_of(folder / "other-vision", 768), text_model_of(folder / "other-text", 1024))


@pytest.fixture(params=["postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    engine = {}
    if request.param == "opensearch":
        url = request.getfixturevalue("opensearch_url")
        engine = {"opensearch_url": url, "opensearch_prefix": f"reembed-{tmp_path.name.replace('_', '-')}"}
    return load_settings(
        data_dir=tmp_path / "data", clip_model="bundled", text_model="bundled", owner_id=OWNER, **engine
    )


@pytest.fixture
def service(pool: Pool, settings: Settings) -> SearchService:
    """As a process that searches holds it from before to after."""
    models = QueryModels(pool, ModelLoaders.on_cpu(BUNDLED, BUNDLED, threads=1), ahead=True)
    return SearchService(index_opener(pool, settings.search_engine), models, pool)


def index_all(settings: Settings, pool: Pool, url: str) -> None:
    """As ``up`` and the writers do, where the settings name an engine."""
    if settings.search_engine is not None:
        client = open_client(settings.search_engine)
        SearchIndexes(pool, url, client, settings.search_engine).ensure(SearchModels(pool).keys())


def assert_no_difference(settings: Settings, pool: Pool, url: str, indexes: int) -> None:
    """All indexes of the engine that the settings name are true to Postgres, and there are so many."""
    if settings.search_engine is not None:
        client = open_client(settings.search_engine)
        with pool.connection() as connection:  # no other follower here
            connection.execute("UPDATE search_changes SET due_at = clock_timestamp()")
        IndexFollower(pool, client).follow_due()
        rows = SearchIndexes(pool, url, client, settings.search_engine).rows()
        assert [row["state"] for row in rows] == ["live"] * indexes
        for row in rows:
            models = ModelKeys(row["vision_model"], row["text_model"])
            verdict = IndexCheck(pool, client, FollowedIndex(row["name"], models)).verify()
            assert (verdict.differences, verdict.compared > 0) == (0, True), verdict


def nearest(service: SearchService, by: Retriever) -> float:
    """The similarity of what is found first, which shows by which model it was looked for."""
    (hit,) = service.search(SearchRequest(Scope(OWNER), QUERY, by=frozenset({by}), limit=1)).hits
    return round(hit.match.similarities[by], 4)


def nearest_stored(
    pool: Pool, by: Retriever, encoded: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]", key: str
) -> float:
    """The same among the stored vectors of a model."""
    return round(max(float(vector @ encoded) for vector in stored_vectors(pool, by, key).values()), 4)


def change(settings: Settings, url: str, wish: ReembedRequest, said: list[str] | None = None) -> Outcome:
    return reembed(settings, url, wish, nullcontext, (said if said is not None else []).append)


def vectors_of(pool: Pool, key: str) -> int:
    return len(stored_vectors(pool, Retriever.PICTURE, key))


@pytest.mark.parametrize("settings", ["postgres", "opensearch"], indirect=True)
def test_search_uses_old_models_until_all_scenes_have_new_ones(
    pool: Pool, database_url: str, tmp_path: Path, settings: Settings, others: Others, service: SearchService
) -> None:
    scenes = store_clips(pool, OWNER, tmp_path / "data" / "scenes", copies=3)
    index_all(settings, pool, database_url)
    old = {by: nearest(service, by) for by in (Retriever.PICTURE, Retriever.MEANING)}
    found: list[dict[Retriever, float]] = []
    over = threading.Event()

    def keep_searching() -> None:
        while not over.wait(0.05):
            found.append({by: nearest(service, by) for by in (Retriever.PICTURE, Retriever.MEANING)})

    said: list[str] = []
    stored = [scenes]

    def keep_writing() -> None:
        """As workers do that have loaded the old models, until these are refused."""
        while len(said) < 2:
            over.wait(0.05)
        with suppress(ModelChanged):
            while not over.wait(0.5):
                stored.append(store_clips(pool, OWNER, tmp_path / "data" / "scenes", most=1))
            raise AssertionError("scenes by the old models are written to the end")

    with ThreadPoolExecutor(2) as threads:
        others_at_work = [threads.submit(keep_searching), threads.submit(keep_writing)]
        try:
            outcome = change(settings, database_url, others.wish, said)
            others_at_work[1].result(timeout=60)
        finally:
            over.set()
        others_at_work[0].result(timeout=60)
    assert (outcome.embedded >= sum(stored), outcome.failures, outcome.lacking) == (True, {}, 0)
    assert_no_difference(settings, pool, database_url, 2)
    assert said[:2] == ["looking at the models", f"{scenes} scenes to embed; the models are being loaded"]
    vision = load_vision_model(str(others.vision), None, "cpu", 1)
    text = load_text_model(str(others.text), "cpu", 1)
    new = {
        Retriever.PICTURE: nearest_stored(pool, Retriever.PICTURE, vision.encode_texts([QUERY])[0], vision.key),
        Retriever.MEANING: nearest_stored(pool, Retriever.MEANING, text.encode([QUERY])[0], text.key),
    }
    for by in (Retriever.PICTURE, Retriever.MEANING):
        answers = [answer[by] for answer in found] + [nearest(service, by)]
        turn = answers.index(new[by])
        assert new[by] != old[by]
        assert turn >= 2
        assert set(answers[:turn]) == {old[by]}
        assert set(answers[turn:]) == {new[by]}

    assert vectors_of(pool, vision.key) == vectors_of(pool, bundled_models().vision.key) >= sum(stored)

    # Back at once, and forth again without anything to embed.
    models = SearchModels(pool)
    models.rollback()
    assert {by: nearest(service, by) for by in old} == old
    assert change(settings, database_url, others.wish).embedded == 0
    assert {by: nearest(service, by) for by in new} == new
    assert_no_difference(settings, pool, database_url, 2)

    # Without the old ones nothing changes but that they are gone.
    named = settings.model_copy(update={"clip_model": str(others.vision), "text_model": str(others.text)})
    drop_old_vectors(named, database_url)
    assert vectors_of(pool, bundled_models().vision.key) == 0
    assert {by: nearest(service, by) for by in new} == new
    assert_no_difference(settings, pool, database_url, 1)


def test_vectors_are_the_models_of_the_key_frames(
    pool: Pool, database_url: str, tmp_path: Path, settings: Settings
) -> None:
    """Those of the bundled models, from before they were lost."""
    scenes = store_clips(pool, OWNER, tmp_path / "data" / "scenes")
    models = bundled_models()
    with pool.connection() as connection:
        before = connection.execute(
            "SELECT e.scene_id, e.embedding AS picture, m.embedding AS meaning FROM scene_embeddings AS e "
            "LEFT JOIN scene_meanings AS m USING (scene_id)"
        ).fetchall()
        connection.execute("DELETE FROM scene_embeddings")
        connection.execute("DELETE FROM scene_meanings")
    assert change(settings, database_url, ReembedRequest()).embedded == scenes
    assert {by: model.key for by, model in SearchModels(pool).active().items()} == {
        Retriever.PICTURE: models.vision.key,
        Retriever.MEANING: models.text.key,
    }
    with pool.connection() as connection:
        pictures, meanings = (
            {
                row["scene_id"]: row["embedding"]
                for row in connection.execute(f"SELECT scene_id, embedding FROM {table}")
            }
            for table in ("scene_embeddings", "scene_meanings")
        )
    for row in before:
        assert row["picture"].to_numpy() @ pictures[row["scene_id"]].to_numpy() > 0.99  # a JPEG was made of the picture
        if row["meaning"] is not None:
            assert np.allclose(row["meaning"].to_numpy(), meanings[row["scene_id"]].to_numpy(), atol=1e-4)


def test_reembed_bad_key_frame_is_named_and_blocks_the_switch(
    pool: Pool, database_url: str, tmp_path: Path, settings: Settings, others: Others, service: SearchService
) -> None:
    scenes = store_clips(pool, OWNER, tmp_path / "data" / "scenes")
    missing, broken, *_ = sorted((tmp_path / "data" / "scenes").rglob("*-key.jpg"))
    missing.unlink()
    broken.write_bytes(broken.read_bytes()[:500])
    wish = ReembedRequest({Retriever.PICTURE: ModelName(str(others.vision))})
    old = nearest(service, Retriever.PICTURE)
    outcome = change(settings, database_url, wish)
    assert (outcome.embedded, outcome.lacking, outcome.switched) == (scenes - 2, 2, {})
    assert sorted(reason.partition(".jpg")[0].rpartition("/")[2] for reason in outcome.failures.values()) == sorted(
        path.stem for path in (missing, broken)
    )
    assert nearest(service, Retriever.PICTURE) == old
    allowed = change(settings, database_url, ReembedRequest(wish.models, allow_missing=True))
    assert (allowed.embedded, allowed.lacking, list(allowed.switched)) == (0, 2, [Retriever.PICTURE])
    assert nearest(service, Retriever.PICTURE) != old


COPIED = 40
COPY = """
-- More scenes of the same key frames: several calls' worth.
INSERT INTO video_scenes (id, video_id, index, start_s, end_s, key_frame_url, combined_text)
SELECT gen_random_uuid(), video_id, index + 1000 * n, start_s, end_s, key_frame_url, combined_text
FROM video_scenes, generate_series(1, %(copies)s) AS n
"""


def test_killed_it_goes_on_where_it_was(
    pool: Pool, database_url: str, tmp_path: Path, settings: Settings, others: Others
) -> None:
    scenes = store_clips(pool, OWNER, tmp_path / "data" / "scenes") * (1 + COPIED)
    with pool.connection() as connection:
        connection.execute(COPY, {"copies": COPIED})
    SearchModels(pool).adopt(Retriever.PICTURE, IndexedModel(bundled_models().vision.key, "bundled", None, 512))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HEIMDEX_")},
        "HEIMDEX_DATABASE_URL": database_url,
        "HEIMDEX_DATA_DIR": str(settings.data_dir),
        "HEIMDEX_CLIP_MODEL": "bundled",
        "HEIMDEX_TEXT_MODEL": "bundled",
        "HEIMDEX_RAY_ADDRESS": ray.get_runtime_context().gcs_address,
    }
    command = [sys.executable, "-m", "cluster.cli.main", "reembed", "--vision", str(others.vision)]
    key = load_vision_model(str(others.vision), None, "cpu", 1).key
    first = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    while not vectors_of(pool, key):  # no signal reports it
        assert first.poll() is None
        threading.Event().wait(0.01)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    active = SearchModels(pool).by_state()
    assert (list(active[State.ACTIVE]), active[State.FILLING][Retriever.PICTURE].key) == ([Retriever.PICTURE], key)
    second = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    assert vectors_of(pool, key) == scenes
    again = int(second.stdout.split()[0])
    assert 0 < again < scenes
    assert second.stderr.splitlines()[:2] == [
        "looking at the models", f"{again} scenes to embed; the models are being loaded"
    ]  # fmt: skip
    assert "set HEIMDEX_CLIP_MODEL and" in second.stderr.splitlines()[-2]  # behind the progress
    assert f"searches are by picture {key} from now on" in second.stdout
    assert SearchModels(pool).active()[Retriever.PICTURE].key == key


def test_models_that_cannot_be_used_are_refused_in_a_sentence(
    pool: Pool, database_url: str, tmp_path: Path, settings: Settings
) -> None:
    with pytest.raises(ConfigurationError, match="not an open_clip model"):
        change(settings, database_url, ReembedRequest({Retriever.PICTURE: ModelName(str(tmp_path))}))
    with pytest.raises(ConfigurationError, match="reads pictures of 96 px, key frames are kept with 64"):
        change(
            settings.model_copy(update={"key_frame_px": 64}), database_url, ReembedRequest({Retriever.PICTURE: BUNDLED})
        )
    assert SearchModels(pool).by_state()[State.FILLING] == {}
