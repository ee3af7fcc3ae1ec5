"""Changes that a database may refuse, and rows that it may hide: said in one sentence, with nothing half done."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from cluster.cli.adopt import look
from cluster.cli.doctor import _owner, _rows
from cluster.cli.main import app
from cluster.contracts.errors import ConfigurationError, RefusedByDatabase
from cluster.contracts.videos import Submission
from cluster.runtime.launch import open_database
from cluster.settings import load_settings
from cluster.store.postgres.connections import Pool, connect, open_pool
from cluster.store.postgres.migrations import apply_migrations, refuse_unmigrated
from cluster.store.postgres.row_security import refuse_hidden_rows
from cluster.store.queue.reprocessing import LeftVideo, reprocess, retry, take_over
from cluster.store.queue.submissions import cancel, submit
from cluster.store.videos.deletion import forget
from tests.support.api_client import ApiMaker, headers
from tests.support.existing_database import ANNA, CARA, changes_between, clip, take_snapshot

KEEPS_STATES = """
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'videos are kept as they are'; END $$;
CREATE TRIGGER keep BEFORE UPDATE OF status ON videos FOR EACH ROW EXECUTE FUNCTION keep()
"""
KEEPS_SCENES = """
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'scenes are kept as they are'; END $$;
CREATE TRIGGER keep BEFORE DELETE ON video_scenes FOR EACH ROW EXECUTE FUNCTION keep()
"""
DROPS_ROWS = """
CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER skip BEFORE INSERT ON videos FOR EACH ROW EXECUTE FUNCTION skip()
"""
FORCED = "ALTER TABLE videos FORCE ROW LEVEL SECURITY; ALTER TABLE video_scenes FORCE ROW LEVEL SECURITY"
VIDEO = [Submission(uri="s3://videos/a.mp4")]


@pytest.fixture
def strict(existing_url: str) -> Iterator[Pool]:
    apply_migrations(existing_url)
    with open_pool(existing_url, max_size=4, name="tests") as pool:
        yield pool


def rule(pool: Pool, statement: str) -> None:
    with pool.connection() as connection:
        connection.execute(statement.encode())


@pytest.mark.parametrize(
    "change",
    [
        lambda pool: retry(pool, [clip(3)]),
        lambda pool: reprocess(pool, [clip(10)]),
        lambda pool: take_over(pool, [LeftVideo(clip(4), ANNA, f"{ANNA}/clip-4.mp4", "PENDING")], ["PENDING"]),
    ],
    ids=["retry", "reprocess", "take over"],
)
def test_change_that_a_trigger_forbids_is_one_sentence(
    strict: Pool, existing_url: str, change: Callable[[Pool], Any]
) -> None:
    rule(strict, KEEPS_STATES)
    before = take_snapshot(existing_url)
    with pytest.raises(RefusedByDatabase, match=r"a rule of the database refuses .*: videos are kept as they are$"):
        change(strict)
    assert changes_between(before, take_snapshot(existing_url)) == []


def test_cancelling_that_a_trigger_forbids_is_one_sentence(strict: Pool) -> None:
    (video,) = submit(strict, ANNA, VIDEO)
    rule(strict, KEEPS_STATES)
    with pytest.raises(RefusedByDatabase, match="videos are kept as they are"):
        cancel(strict, [video])


def test_forgetting_that_a_trigger_forbids_changes_nothing(strict: Pool, existing_url: str) -> None:
    rule(strict, KEEPS_SCENES)
    before = take_snapshot(existing_url)
    with pytest.raises(RefusedByDatabase, match="scenes are kept as they are"):
        forget(strict, [clip(10)])
    assert changes_between(before, take_snapshot(existing_url)) == []


def test_http_answers_a_forbidden_change_with_409(make_api: ApiMaker, strict: Pool) -> None:
    rule(strict, KEEPS_STATES)
    answer = make_api(pool=strict).post(f"/v1/videos/{clip(10)}/reprocess", headers=headers(CARA))
    assert (answer.status_code, "videos are kept as they are" in answer.json()["detail"]) == (409, True)


def test_submission_that_a_trigger_drops_is_refused(strict: Pool, existing_url: str) -> None:
    rule(strict, DROPS_ROWS)
    with pytest.raises(RefusedByDatabase, match=f"drops new videos of {ANNA}"):
        submit(strict, ANNA, VIDEO)
    assert not _owner(existing_url, ANNA).ok


def test_repeated_submission_is_not_taken_for_dropped(strict: Pool) -> None:
    (video,) = submit(strict, ANNA, VIDEO)
    assert submit(strict, ANNA, VIDEO, [video]) == [video]


def test_rows_that_row_security_hides_are_refused(existing_url: str) -> None:
    with connect(existing_url) as connection:
        connection.execute(FORCED)
    apply_migrations(existing_url)
    sentence = "hides rows of video_scenes, videos from the role existing_owner"
    with pytest.raises(ConfigurationError, match=sentence):
        look(existing_url)
    with pytest.raises(ConfigurationError, match=sentence), open_database(load_settings(database_url=existing_url)):
        pass
    finding = _rows(existing_url)
    assert (finding.ok, sentence in finding.seen) == (False, True)


def test_row_security_hides_nothing_from_the_owner(existing_url: str) -> None:
    refuse_hidden_rows(existing_url)
    assert _rows(existing_url).ok


def test_role_that_may_make_no_tables_is_one_sentence(existing_url: str) -> None:
    with connect(existing_url) as connection:
        connection.execute("REVOKE CREATE ON SCHEMA public FROM existing_owner, PUBLIC")
    with pytest.raises(ConfigurationError, match="migrations cannot be applied: permission denied for schema public"):
        apply_migrations(existing_url)


def test_role_that_may_make_no_tables_needs_none_later(strict: Pool, existing_url: str) -> None:
    rule(strict, "REVOKE CREATE ON SCHEMA public FROM existing_owner, PUBLIC")
    assert apply_migrations(existing_url) == []


def test_status_of_what_is_not_migrated_is_one_sentence(existing_url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"lacks \d+ migrations?: run `heimdex migrate` first"):
        refuse_unmigrated(existing_url)
    result = CliRunner().invoke(app, ["status"], env={"HEIMDEX_DATABASE_URL": existing_url})
    assert isinstance(result.exception, ConfigurationError)


def test_looking_at_what_is_no_heimdex_is_one_sentence(bare_database_url: str) -> None:
    with pytest.raises(ConfigurationError, match="no database of a Heimdex"):
        look(bare_database_url)
