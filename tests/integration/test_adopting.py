"""The steps of ``heimdex adopt`` that need no model, on a database as strict as a real one."""

import io
import json
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from PIL import Image
from psycopg.conninfo import conninfo_to_dict

from cluster.cli.adopt import Report, look, take_over_left
from cluster.cli.adopt_command import report_json
from cluster.cli.thumbnails import Thumbnails
from cluster.contracts.errors import ConfigurationError
from cluster.contracts.search import Retriever, Scope, parse_words
from cluster.files.fetch_limits import fetch_limits
from cluster.files.scene_pictures import ScenePictures
from cluster.settings import Settings, load_settings
from cluster.store.index.model_registry import IndexedModel, SearchModels
from cluster.store.opensearch.verify import Kind
from cluster.store.postgres.admin_functions import changed_functions, restore_functions
from cluster.store.postgres.connections import Pool, connect, open_pool
from cluster.store.postgres.migrations import apply_migrations
from cluster.store.queue.submissions import quarantine
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.search.postgres_check import PostgresCheck
from cluster.store.search.postgres_index import PostgresSearchIndex
from cluster.store.videos.adoption import Adoption
from tests.support.existing_database import (
    ANNA,
    BEN,
    CARA,
    changes_between,
    clip,
    restore_existing_functions,
    take_snapshot,
)


@pytest.fixture
def settings(existing_url: str, tmp_path: Path) -> Settings:
    return load_settings(database_url=existing_url, data_dir=tmp_path / "data", storage_root=str(tmp_path / "stored"))


@pytest.fixture
def adopted(existing_url: str) -> Iterator[Pool]:
    """The database, migrated."""
    apply_migrations(existing_url)
    with open_pool(existing_url, max_size=4, name="tests") as opened:
        yield opened


def store(root: Path, path: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(b"a video")


def test_a_dry_run_changes_nothing(existing_url: str) -> None:
    before = take_snapshot(existing_url)
    report = look(existing_url)
    assert report.inventory is not None
    assert (report.inventory.ready, report.inventory.scenes, report.backfilled, report.left) == (12, 36, 12, 12)
    assert report.migrations > 0
    assert changes_between(before, take_snapshot(existing_url)) == []
    with connect(existing_url) as connection:
        rows = connection.execute("SELECT to_regclass('heimdex_migrations') IS NULL AS missing").fetchall()
    assert rows == [{"missing": True}]


def test_dry_run_tells_scenes_words_and_functions_apart(adopted: Pool, existing_url: str) -> None:
    restore_existing_functions(existing_url)
    report = look(existing_url)
    # Boat, dawn, harbour, part, quay and the, in the scenes of one owner: the READY ones are all Cara's.
    assert (report.migrations, report.restored, report.indexed, report.words) == (0, 10, 36, 6)


def test_report_is_json_with_its_reasons(existing_url: str) -> None:
    report = Report(dry=False, inventory=look(existing_url).inventory, failed={clip(10): "no picture"})
    report.unreadable.update(["no such file"] * 3)
    told = json.loads(report_json(report))
    assert (told["unreadable"], told["failed"], told["inventory"]["ready"]) == ({"no such file": 3}, 1, 12)


def test_adopted_scenes_are_found_by_words(adopted: Pool, existing_url: str) -> None:
    before = take_snapshot(existing_url)
    check = PostgresCheck(adopted, existing_url)
    check.repair()
    assert check.verify().differences == 0
    index = PostgresSearchIndex(adopted)
    assert len(index.words(parse_words("quay"), Scope(CARA), 99)) == 24
    # The third scene of each has no combined_text: it is found by what was said.
    assert len(index.words(parse_words("dawn"), Scope(CARA), 99)) == 12
    assert changes_between(before, take_snapshot(existing_url), {"video_scenes.text_index"}) == []


def test_scenes_without_key_frame_are_not_stale(adopted: Pool, existing_url: str) -> None:
    PostgresCheck(adopted, existing_url).repair()
    SearchModels(adopted).adopt(Retriever.PICTURE, IndexedModel("p@1", "p", None, 512))
    assert PostgresCheck(adopted, existing_url).verify().counts[Kind.STALE_MODEL] == 0
    with connect(existing_url) as connection:
        connection.execute("UPDATE video_scenes SET key_frame_url = 'file:///k.jpg' WHERE index = 0")
    assert PostgresCheck(adopted, existing_url).verify().counts[Kind.STALE_MODEL] == 12


def test_thumbnails_below_the_root_become_key_frames(
    adopted: Pool, existing_url: str, settings: Settings, tmp_path: Path
) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (64, 48), (250, 10, 10)).save(picture, "PNG")
    store(tmp_path / "stored", "thumbs/1.png")
    (tmp_path / "stored" / "thumbs" / "1.png").write_bytes(picture.getvalue())
    (tmp_path / "secret.png").write_bytes(picture.getvalue())
    with connect(existing_url) as connection:
        for index, url in enumerate(("thumbs/1.png", f"file://{tmp_path}/secret.png", "../secret.png")):
            connection.execute("UPDATE video_scenes SET thumbnail_url = %s WHERE index = %s", (url, index))
    adoption = Adoption(adopted)
    scenes = [scene for scene in adoption.unshown(UUID(int=0), 99) if scene.video_id == clip(10)]
    thumbnails = Thumbnails(ScenePictures(str(tmp_path / "scenes")), fetch_limits(settings))
    copies = thumbnails.copy(sorted(scenes, key=lambda scene: scene.url, reverse=True))
    assert [copy.url is not None for copy in copies] == [True, False, False]
    good = [(copy.scene_id, copy.url) for copy in copies if copy.url is not None]
    assert adoption.set_key_frames(good) == 1
    assert adoption.set_key_frames(good) == 0
    assert adoption.not_embeddable() == (35, 0)
    assert (tmp_path / "scenes" / str(clip(10)) / f"{good[0][0]}-key.jpg").is_file()


def test_thumbnail_of_another_owner_is_not_copied(
    adopted: Pool, existing_url: str, settings: Settings, tmp_path: Path
) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (64, 48), (250, 10, 10)).save(picture, "PNG")
    urls = [f"{CARA}/own.png", f"{ANNA}/private.png", f"thumbs/{ANNA}/private.png"]
    for url in urls:
        store(tmp_path / "stored", url)
        (tmp_path / "stored" / url).write_bytes(picture.getvalue())
    with connect(existing_url) as connection:
        for index, url in enumerate(urls):
            connection.execute("UPDATE video_scenes SET thumbnail_url = %s WHERE index = %s", (url, index))
    scenes = [scene for scene in Adoption(adopted).unshown(UUID(int=0), 99) if scene.video_id == clip(10)]
    copies = Thumbnails(ScenePictures(str(tmp_path / "scenes")), fetch_limits(settings)).copy(scenes)
    made = {scene.url for scene, copy in zip(scenes, copies, strict=True) if copy.url is not None}
    assert made == {urls[0]}


ODD_INDEXES = (-5, 100_000, 2_147_483_647, 7, 7, None)


@pytest.fixture
def any_index(existing_url: str) -> None:
    """A video whose scenes have any index; each has a thumbnail of its own."""
    with connect(existing_url) as connection:
        connection.execute(
            "ALTER TABLE video_scenes ALTER COLUMN index DROP NOT NULL, DROP CONSTRAINT video_scenes_video_id_index_key"
        )
        for number, index in enumerate(ODD_INDEXES):
            connection.execute(
                "INSERT INTO video_scenes (video_id, index, start_s, end_s, transcript_segment, thumbnail_url) "
                "VALUES (%s, %s, 0, 1, 'quay', %s)",
                (clip(10), index, f"odd/{number}.png"),
            )


@pytest.mark.usefixtures("any_index")
def test_scenes_of_any_index_are_adopted(adopted: Pool, existing_url: str) -> None:
    inventory = look(existing_url).inventory
    assert inventory is not None
    # Those out of bounds, the one without an index, and one of the two with the same.
    assert inventory.scenes_unnumbered == 5
    with adopted.connection() as connection:
        connection.execute("DELETE FROM search_changes")
    assert Adoption(adopted).add_to_outbox() == 12
    with adopted.connection() as connection:
        (row,) = connection.execute("SELECT max(most_scenes) AS most FROM search_changes").fetchall()
    assert row["most"] == 8


@pytest.mark.usefixtures("any_index")
def test_scenes_of_the_same_index_have_each_their_key_frame(
    adopted: Pool, existing_url: str, settings: Settings, tmp_path: Path
) -> None:
    for number in range(len(ODD_INDEXES)):
        picture = io.BytesIO()
        Image.new("RGB", (64, 48), (40 * number, 10, 10)).save(picture, "PNG")
        store(tmp_path / "stored", f"odd/{number}.png")
        (tmp_path / "stored" / "odd" / f"{number}.png").write_bytes(picture.getvalue())
    scenes = [scene for scene in Adoption(adopted).unshown(UUID(int=0), 99) if scene.url.startswith("odd/")]
    copies = Thumbnails(ScenePictures(str(tmp_path / "scenes")), fetch_limits(settings)).copy(scenes)
    assert len({Path(urlsplit(copy.url or "").path).read_bytes() for copy in copies}) == len(ODD_INDEXES)


def test_waiting_videos_are_taken_over_once(adopted: Pool, settings: Settings, tmp_path: Path) -> None:
    for path in (f"{ANNA}/clip-4.mp4", f"{ANNA}/clip-8.mp4"):
        store(tmp_path / "stored", path)
    said: list[str] = []
    url = settings.database_url
    assert url is not None
    dry = take_over_left(settings, url, failed=False, dry=True, say=said.append)
    assert (dry.queued, dry.refused.total(), VideoQueue(adopted, "s", 60.0).claim(99)) == (2, 10, [])
    taken = take_over_left(settings, url, failed=False, dry=False, say=said.append)
    assert (taken.queued, dict(taken.refused)) == (2, {"its file cannot be read": 10})
    claimed = VideoQueue(adopted, "s", 60.0).claim(99)
    assert sorted(video.uri for video in claimed) == [f"{ANNA}/clip-4.mp4", f"{ANNA}/clip-8.mp4"]
    assert take_over_left(settings, url, failed=False, dry=False, say=said.append).queued == 0


def test_only_own_relative_paths_are_taken_over(adopted: Pool, settings: Settings, tmp_path: Path) -> None:
    store(tmp_path / "stored", f"{ANNA}/clip-4.mp4")
    (tmp_path / "other.mp4").write_bytes(b"a video")
    url = settings.database_url
    assert url is not None
    with connect(url) as connection:
        for number, path in ((4, f"{BEN}/a.mp4"), (8, f"{tmp_path}/other.mp4"), (12, "https://example.org/a.mp4")):
            connection.execute("UPDATE videos SET storage_path = %s WHERE id = %s", (path, clip(number)))
    store(tmp_path / "stored", f"{BEN}/a.mp4")
    taken = take_over_left(settings, url, failed=False, dry=False, say=lambda _: None)
    assert taken.queued == 0
    assert taken.refused["its file is in another owner's folder"] == 1
    assert taken.refused["its storage path is not relative"] == 2


def test_path_that_cannot_be_resolved_fails_its_row_alone(adopted: Pool, settings: Settings, tmp_path: Path) -> None:
    store(tmp_path / "stored", f"{ANNA}/clip-8.mp4")
    own = tmp_path / "stored" / str(ANNA)
    (own / "clip-4.mp4").symlink_to("clip-4.mp4")
    (own / "ring").symlink_to("ring")
    url = settings.database_url
    assert url is not None
    with connect(url) as connection:
        update = "UPDATE videos SET storage_path = %s, owner_id = %s WHERE id = %s"
        for number, path in ((12, "ring/a.mp4"), (16, "clip-8.mp4/a.mp4"), (20, "x" * 300)):
            connection.execute(update, (f"{ANNA}/{path}", ANNA, clip(number)))
    taken = take_over_left(settings, url, failed=False, dry=False, say=lambda _: None)
    assert (taken.queued, dict(taken.refused)) == (1, {"its file cannot be read": 11})
    assert any("links" in example for example in taken.examples)


def test_thumbnail_that_cannot_be_resolved_fails_alone(
    adopted: Pool, existing_url: str, settings: Settings, tmp_path: Path
) -> None:
    store(tmp_path / "stored", "good.png")
    Image.new("RGB", (64, 48)).save(tmp_path / "stored" / "good.png")
    (tmp_path / "stored" / "loop.png").symlink_to("loop.png")
    with connect(existing_url) as connection:
        for index, url in enumerate(("loop.png", "good.png", "good.png/x.png")):
            connection.execute("UPDATE video_scenes SET thumbnail_url = %s WHERE index = %s", (url, index))
    scenes = [scene for scene in Adoption(adopted).unshown(UUID(int=0), 99) if scene.video_id == clip(10)]
    copies = Thumbnails(ScenePictures(str(tmp_path / "scenes")), fetch_limits(settings)).copy(scenes)
    assert [scene.url for scene, copy in zip(scenes, copies, strict=True) if copy.url] == ["good.png"]


def test_failed_videos_are_taken_over_when_asked(adopted: Pool, settings: Settings, tmp_path: Path) -> None:
    with adopted.connection() as connection:
        rows = connection.execute("SELECT storage_path FROM videos WHERE status = 'FAILED'").fetchall()
    for row in rows:
        store(tmp_path / "stored", row["storage_path"])
    url = settings.database_url
    assert url is not None
    assert take_over_left(settings, url, failed=False, dry=False, say=lambda _: None).queued == 0
    assert take_over_left(settings, url, failed=True, dry=False, say=lambda _: None).queued == 12
    assert len(VideoQueue(adopted, "s", 60.0).claim(99)) == 12


def test_take_over_without_a_root_is_refused(adopted: Pool, existing_url: str) -> None:
    assert adopted
    with pytest.raises(ConfigurationError, match="HEIMDEX_STORAGE_ROOT"):
        take_over_left(load_settings(), existing_url, failed=False, dry=True, say=lambda _: None)


def test_views_go_on_reading_the_functions_they_read(existing_url: str) -> None:
    with connect(existing_url) as connection:
        connection.execute("CREATE VIEW totals AS SELECT * FROM get_admin_overview_metrics()")
        connection.execute("CREATE VIEW days AS SELECT * FROM get_throughput_timeseries(30)")
        before = connection.execute("SELECT * FROM totals").fetchall()
    apply_migrations(existing_url)
    with connect(existing_url) as connection:
        assert changed_functions(connection) == []
        assert connection.execute("SELECT * FROM totals").fetchall() == before
        connection.execute("CREATE VIEW stages AS SELECT * FROM get_admin_failures_by_stage(30)")
        connection.execute("DROP FUNCTION get_search_timeseries(integer)")
    assert restore_functions(existing_url) == ["get_search_timeseries(integer)"]
    with connect(existing_url) as connection:
        assert changed_functions(connection) == []
        assert connection.execute("SELECT count(*) AS n FROM stages").fetchall() == [{"n": 2}]


@pytest.mark.parametrize(
    "settings",
    [
        "ALTER DATABASE {database} SET search_path = public",
        "ALTER DATABASE {database} SET search_path = ''",
        "CREATE SCHEMA existing_owner AUTHORIZATION existing_owner",
        "ALTER DATABASE {database} SET DateStyle = 'German'; ALTER DATABASE {database} SET TimeZone = 'Asia/Seoul'; "
        "ALTER DATABASE {database} SET IntervalStyle = 'iso_8601'",
    ],
    ids=["pgvector elsewhere", "no schemas", "a schema of the role's", "dates of a country"],
)
def test_settings_of_a_database_change_nothing(existing_url: str, settings: str) -> None:
    superuser = existing_url.replace("://existing_owner@", "://postgres@")
    database = str(conninfo_to_dict(existing_url)["dbname"])
    with connect(superuser) as connection:
        connection.execute(settings.format(database=database).encode())
    apply_migrations(existing_url)
    with open_pool(existing_url, max_size=2, name="tests") as pool:
        SearchModels(pool).adopt(Retriever.PICTURE, IndexedModel("p@1", "p", None, 768))
        PostgresCheck(pool, existing_url).repair()
        assert PostgresCheck(pool, existing_url).verify().differences == 0
        assert {video.failed_at.tzinfo for video in quarantine(pool, 50)[0]} == {UTC}
        with pool.connection() as connection:
            rows = connection.execute(
                "SELECT DISTINCT relnamespace::regnamespace::text AS schema FROM pg_class "
                "WHERE relkind = 'r' AND relname ~ '^(heimdex|scene|search|video|embedding|cluster|forgotten)_'"
            ).fetchall()
    assert rows == [{"schema": "public"}]
