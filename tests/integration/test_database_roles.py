"""The database's roles: each may do what its side of the cluster does, and nothing else; also where rows are hidden."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from cluster.cli.doctor_database import database_roles
from cluster.cli.finding import Finding
from cluster.contracts.database_url import DatabaseRole
from cluster.contracts.errors import ConfigurationError
from cluster.contracts.results import StageFailure, StageReport
from cluster.contracts.search import Retriever
from cluster.contracts.stages import Blame, Outcome, Stage
from cluster.contracts.videos import Origin, Submission
from cluster.settings import load_settings
from cluster.store.index.embeddings import EVERY_ID, SceneVector, SceneVectors
from cluster.store.index.model_registry import IndexedModel, SearchModels
from cluster.store.index.vector_tables import make_table
from cluster.store.metrics import figures
from cluster.store.postgres.admin_functions import DEFINED_BY
from cluster.store.postgres.connections import EmbeddedPostgres, Pool, connect, open_pool
from cluster.store.postgres.embedded_roles import SUPERUSER
from cluster.store.postgres.migrations import all_migrations, apply_again, apply_migrations
from cluster.store.postgres.roles import lacking_rights, missing_roles, restore_rights, statements_for
from cluster.store.postgres.row_security import refuse_hidden_rows
from cluster.store.queue.reprocessing import retry
from cluster.store.queue.stage_runs import ClosedRun, StageLedger
from cluster.store.queue.submissions import cancel, submit
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.search.hits import record_search
from cluster.store.videos.deletion import forget
from cluster.store.videos.scenes import SceneStore
from cluster.store.videos.videos import list_videos
from tests.chaos.rights import FUNCTIONS, RELATIONS
from tests.conftest import database_on
from tests.support.database_roles import as_role
from tests.support.existing_database import ANNA, OWNER_ROLE, changes_between, clip, existing_database, take_snapshot
from tests.support.queued_videos import OWNER, begin, claim_one, finish, note_begun, only, scenes, transcript, unit
from tests.support.searchable import VISION, Scene, add_video

MIGRATE, WORKER, API, READER = DatabaseRole
ROLES = (WORKER, API, READER)
DENIED = psycopg.errors.InsufficientPrivilege
WIDE = IndexedModel("siglip@1", "ViT-B-16-SigLIP2-256", "webli", 768)
OLD = IndexedModel(VISION.key, "ViT-B-32", "laion2b_s34b_b79k", 512)
BUNDLED = IndexedModel("bundled@1", "bundled", None, 512)

TABLE_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
PER_COLUMN = ("UPDATE",)


def denied(url: str, role: DatabaseRole, statement: str) -> None:
    with connect(as_role(url, role), autocommit=True) as connection, pytest.raises(DENIED):
        connection.execute(statement.encode())


@contextmanager
def pool_as(url: str, role: DatabaseRole) -> Iterator[Pool]:
    with open_pool(as_role(url, role), max_size=4, name="tests") as pool:
        yield pool


# What is decided, and that the database says the same


def test_every_object_of_the_migrations_has_a_decision(database_url: str) -> None:
    with connect(database_url) as connection:
        decided = {row["object"] for row in connection.execute("SELECT object FROM heimdex_role_rights")}
        relations = {row["name"] for row in connection.execute(RELATIONS)}
        functions = {row["name"] + "()" for row in connection.execute(FUNCTIONS)}
    assert relations | functions <= decided, "add a row to heimdex_role_rights in the migration that makes it"
    assert decided <= relations | functions


def test_each_role_has_what_is_decided_and_no_more(database_url: str) -> None:
    with connect(database_url) as connection:
        decisions = connection.execute("SELECT * FROM heimdex_role_rights WHERE object NOT LIKE '%()'").fetchall()
        kinds = {row["name"]: row["kind"] for row in connection.execute(RELATIONS)}
        for decision in decisions:
            for role in ROLES:
                listed = re.findall(r"([A-Z]+)(?: \(([^)]*)\))?", decision[role.name.lower()])
                wanted = {right: ", ".join(sorted(filter(None, columns.split(", ")))) for right, columns in listed}
                found = held(connection, role, decision["object"], kinds[decision["object"]])
                assert found == wanted, (role, decision["object"])


def held(connection: psycopg.Connection[dict[str, str]], role: str, name: str, kind: str) -> dict[str, str]:
    """The rights of a role on a relation, each with the columns to which it is limited."""
    found = {}
    for right in ("USAGE", "UPDATE") if kind == "sequence" else TABLE_RIGHTS:
        query = f"SELECT has_{kind}_privilege(%s, %s, %s) AS may"
        if connection.execute(query.encode(), (role, f"public.{name}", right)).fetchall()[0]["may"]:
            found[right] = ""
        elif right in PER_COLUMN and kind == "table":
            columns = connection.execute(
                "SELECT string_agg(attname, ', ' ORDER BY attname) AS names FROM pg_attribute WHERE attnum > 0 "
                "AND NOT attisdropped AND attrelid = %(name)s::regclass "
                "AND has_column_privilege(%(role)s, attrelid, attnum, %(right)s)",
                {"role": role, "name": f"public.{name}", "right": right},
            ).fetchall()
            if columns[0]["names"]:
                found[right] = columns[0]["names"]
    return found


def test_owner_is_the_migrating_role_and_no_superuser(database_url: str) -> None:
    with connect(database_url) as connection:
        owners = connection.execute(
            "SELECT DISTINCT pg_get_userbyid(relowner) AS owner FROM pg_class "
            "WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S') "
            "UNION SELECT pg_get_userbyid(proowner) FROM pg_proc WHERE proname ~ '^(heimdex|get)_' "
            "AND pronamespace = 'public'::regnamespace"
        ).fetchall()
        roles = connection.execute(
            "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication AS mighty, rolcanlogin "
            "FROM pg_roles WHERE rolname LIKE 'heimdex%'"
        ).fetchall()
    assert owners == [{"owner": MIGRATE}]
    assert roles == [{"mighty": False, "rolcanlogin": True}] * len(DatabaseRole)


def test_functions_with_the_owners_rights_have_a_pinned_path(database_url: str) -> None:
    with connect(database_url) as connection:
        rows = connection.execute(
            "SELECT proname, proconfig FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace"
        ).fetchall()
    assert {row["proname"] for row in rows} >= {"heimdex_vector_table"}
    assert all('search_path=""' in row["proconfig"] for row in rows)


# The roles in use


def test_reader_reads_everything_and_writes_nothing(database_url: str) -> None:
    with connect(as_role(database_url, READER), autocommit=True) as connection:
        for row in connection.execute(RELATIONS).fetchall():
            name = sql.Identifier(row["name"])
            if row["kind"] == "table":
                connection.execute(sql.SQL("SELECT * FROM {}").format(name)).fetchall()
                for statement in ("DELETE FROM {}", "TRUNCATE {}", "INSERT INTO {} DEFAULT VALUES"):
                    with pytest.raises(DENIED):
                        connection.execute(sql.SQL(statement).format(name))
        assert figures.get_overview(connection)["videos_total"] == 0
        assert figures.get_users(connection, 7, 10, 0, "hours_ready") == ([], 0)
        with pytest.raises(DENIED):
            connection.execute("CREATE TABLE public.mine ()")


@pytest.mark.parametrize("statement", [
    "DELETE FROM videos",
    "INSERT INTO video_stage_runs (video_id, attempt, stage, ready_at) "
    "VALUES (gen_random_uuid(), 1, 'downloading', now())",
    "DELETE FROM video_stage_runs",
    "SELECT nextval('video_lease_tokens')",
    "UPDATE search_models SET state = 'previous'",
    "INSERT INTO cluster_workers (worker, scheduler, kind, node, device, state) VALUES ('a','a','a','a','a','idle')",
    "UPDATE heimdex_role_rights SET api = 'ALL'",
    "INSERT INTO heimdex_migrations VALUES (999, 'x', 'x')",
    "SELECT heimdex_grant_roles()",
    "CREATE TABLE public.mine ()",
    "SET ROLE heimdex_worker",
    "SELECT pg_read_file('/etc/passwd')",
])  # fmt: skip
def test_api_may_not(database_url: str, statement: str) -> None:
    denied(database_url, API, statement)


def test_api_submits_by_the_rules_of_http_alone(database_url: str) -> None:
    with open_pool(database_url, max_size=1, name="tests") as pool:
        ids = [
            submit(pool, UUID(int=7), [Submission(uri="/srv/a.mp4")], origin=origin)[0]
            for origin in (Origin.COMMAND, Origin.HTTP)
        ]
    with open_pool(as_role(database_url, API), max_size=1, name="tests") as pool:
        for origin in (Origin.COMMAND, Origin.MANIFEST):
            with pytest.raises(DENIED, match="origins http and adopted only"), pool.connection() as connection:
                connection.execute(
                    "INSERT INTO video_processing (video_id, owner_id, uri, origin) VALUES (%s, %s, '/etc/passwd', %s)",
                    (uuid4(), UUID(int=7), origin),
                )
            with pytest.raises(DENIED), pool.connection() as connection:
                connection.execute(
                    "UPDATE video_processing SET origin = %s WHERE video_id = %s",
                    (Origin.HTTP if origin is Origin.COMMAND else origin, ids[0]),
                )
        with pytest.raises(DENIED), pool.connection() as connection:
            connection.execute("UPDATE video_processing SET uri = '/etc/passwd' WHERE video_id = %s", (ids[0],))
        for moved in ("video_id = gen_random_uuid()", "owner_id = gen_random_uuid()"):
            with pytest.raises(DENIED), pool.connection() as connection:
                connection.execute(f"UPDATE video_processing SET {moved} WHERE video_id = %s", (ids[0],))
        (video,) = submit(pool, UUID(int=7), [Submission(uri="https://host/b.mp4")], origin=Origin.HTTP)
        assert set(cancel(pool, [*ids, video])) == {*ids, video}
        assert set(retry(pool, ids)) == set(cancel(pool, ids)) == set(ids)
        assert set(forget(pool, [*ids, video], without_file=[ids[0]])) == {*ids, video}


def test_api_takes_and_prolongs_no_lease(database_url: str) -> None:
    with open_pool(database_url, max_size=1, name="tests") as pool:
        ids = submit(pool, UUID(int=7), [Submission(uri=f"https://host/{name}.mp4") for name in "ab"])
        (claimed,) = VideoQueue(pool, "first", 60.0).claim(1)
    (waiting,) = {*ids} - {claimed.id}
    changes = (f"video_id = '{waiting}'", "scheduler = 'mine'", "expires_at = now() + interval '9 years'")
    with open_pool(as_role(database_url, API), max_size=1, name="tests") as pool:
        for change in changes:
            with pytest.raises(DENIED, match="ends leases, and changes none"), pool.connection() as connection:
                connection.execute(f"UPDATE video_leases SET {change}")
        assert set(cancel(pool, ids)) == {*ids}


def test_api_adds_no_time_and_no_outcome_to_the_ledger(database_url: str) -> None:
    with open_pool(database_url, max_size=2, name="tests") as pool:
        queue = VideoQueue(pool, "first", 60.0)
        ended, open_one = claim_one(pool, queue), claim_one(pool, queue)
        begin(pool, open_one, Stage.DOWNLOADING)
        (run,) = begin(pool, ended, Stage.DOWNLOADING)
        failure = StageFailure("InvalidVideo", "no pictures", Blame.VIDEO)
        report = StageReport(
            run_s=2.0, batch_size=1, node="n", worker="w", device="cpu", resource_s=2.0, failure=failure
        )
        StageLedger(pool).write([], [ClosedRun(run, Outcome.FAILED, run.ready_at + timedelta(seconds=1), report)])
        before = ledger(pool)
        for forged in (
            "resource_s = 0 WHERE error_message IS NULL",
            "ready_at = ready_at - interval '1 hour' WHERE error_message IS NULL",
            "worker = 'another' WHERE error_message IS NULL",
            "run_ms = 3600000",
            "outcome = 'completed', finished_at = clock_timestamp(), wait_ms = 0, run_ms = 0",
            "outcome = 'lost', error_type = 'Cancelled', finished_at = clock_timestamp(), wait_ms = 0, run_ms = 9",
            "error_message = 'a message of ours'",
        ):
            denied(database_url, API, f"UPDATE video_stage_runs SET {forged}")
        assert ledger(pool) == before
        with pool_as(database_url, API) as api:
            with api.connection() as connection:
                connection.execute(
                    "UPDATE video_stage_runs SET outcome = 'lost', error_type = 'Cancelled', run_ms = 0, "
                    "finished_at = ready_at, wait_ms = 7200000 WHERE outcome = 'running'"
                )
            assert ledger(pool)[open_one.id]["wait_ms"] < 3600000
            assert forget(api, [ended.id, open_one.id]) == sorted([ended.id, open_one.id])
        assert ledger(pool)[ended.id] == {**before[ended.id], "error_message": None}


def ledger(pool: Pool) -> dict[UUID, dict[str, Any]]:
    with pool.connection() as connection:
        return {row["video_id"]: row for row in connection.execute("SELECT * FROM video_stage_runs")}


@pytest.mark.parametrize("statement", [
    "DELETE FROM videos",
    "DELETE FROM video_stage_runs",
    "ALTER TABLE videos DISABLE TRIGGER ALL",
    "DROP TABLE video_leases",
    "TRUNCATE scene_embeddings",
    "UPDATE heimdex_role_rights SET worker = 'ALL'",
    "INSERT INTO scene_vector_tables (space, model, dimensions, relation) VALUES ('picture', 'x', 3, 'videos')",
    "SELECT heimdex_grant_roles()",
    "CREATE TABLE public.mine ()",
    "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "SET ROLE heimdex_migrate",
])  # fmt: skip
def test_worker_may_not(database_url: str, statement: str) -> None:
    denied(database_url, WORKER, statement)


def test_worker_takes_a_video_all_its_way(database_url: str) -> None:
    with pool_as(database_url, WORKER) as pool, pool_as(database_url, API) as api:
        SearchModels(pool).adopt(Retriever.PICTURE, BUNDLED)
        queue = VideoQueue(pool, "first", 60.0)
        video = claim_one(pool, queue)
        begin(pool, video, Stage.DOWNLOADING)
        note_begun(pool, video)
        written = scenes(video.id, "the tide", "the moon")
        SceneStore(pool).replace(video.id, video.lease_token, transcript("the tide the moon"), written, 2.0)
        finish(queue, video)
        record_search(api, OWNER, "tide", 1, 3)
        assert [item["status"] for item in list_videos(api, OWNER, None, 10, 0)[0]] == ["READY"]
        assert figures.get_overview(api)["videos_ready_total"] == 1
        assert only(api, "SELECT count(*) AS n FROM search_queries")["n"] == 1


def test_worker_has_a_table_of_a_new_model_made_and_fills_it(database_url: str) -> None:
    with pool_as(database_url, WORKER) as pool:
        models = SearchModels(pool)
        models.adopt(Retriever.PICTURE, OLD)
        add_video(pool, OWNER, [Scene("the tide", "red circle")])
        models.begin(Retriever.PICTURE, WIDE)
        vectors = SceneVectors(pool, {Retriever.PICTURE: WIDE.key})
        lacking = vectors.lacking(EVERY_ID, 100)
        made = [SceneVector(scene.scene_id, scene.made, unit(1, WIDE.dimensions)) for scene in lacking]
        assert vectors.write(Retriever.PICTURE, made) == 1
        assert models.switch({Retriever.PICTURE: WIDE.key}) == 0
        with pool.connection() as connection:
            table = make_table(connection, Retriever.PICTURE, WIDE.key, WIDE.dimensions).relation
        models.rollback()
        with pytest.raises(ConfigurationError, match="dropped as the owner of table"):
            models.drop_old()
    for role, right in ((WORKER, "SELECT, INSERT, UPDATE, DELETE"), (API, "SELECT"), (READER, "SELECT")):
        with connect(database_url) as connection:
            assert set(held(connection, role, table, "table")) == set(right.split(", "))
    with pool_as(database_url, MIGRATE) as pool:
        assert SearchModels(pool).drop_old() == 1


def test_api_has_the_first_table_of_a_space_made_and_no_more(database_url: str) -> None:
    tables = "SELECT count(*) AS n FROM pg_class WHERE relname LIKE 'scene\\_vectors\\_%%' AND relkind = 'r'"
    with pool_as(database_url, API) as api, pool_as(database_url, WORKER) as worker:
        models = SearchModels(api)
        for _ in range(2):  # the second time it is there
            models.adopt(Retriever.PICTURE, WIDE)
            models.adopt(Retriever.MEANING, BUNDLED)
        for by in (Retriever.PICTURE, Retriever.MEANING):
            for dimensions in (WIDE.dimensions, 3):
                with api.connection() as connection, pytest.raises(DENIED, match=f"the first {by} model"):
                    make_table(connection, by, "another@1", dimensions)
        assert only(worker, tables)["n"] == 2
        with worker.connection() as connection:
            make_table(connection, Retriever.PICTURE, "another@1", 3)
        assert only(worker, tables)["n"] == 3


# Migrating


def test_migrating_role_migrates_again_file_by_file(database_url: str) -> None:
    with connect(as_role(database_url, MIGRATE), autocommit=True) as connection:
        for migration in all_migrations():
            connection.execute(migration.text.encode())
        assert lacking_rights(connection) == []


def test_functions_that_are_restored_keep_their_rights(database_url: str) -> None:
    apply_again(as_role(database_url, MIGRATE), DEFINED_BY)
    with connect(database_url) as connection:
        assert lacking_rights(connection) == []


def test_rights_that_were_taken_are_restored(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("REVOKE SELECT ON videos FROM heimdex_reader")
        connection.execute("REVOKE EXECUTE ON FUNCTION heimdex_users_total FROM heimdex_api")
        connection.execute("REVOKE UPDATE (state) ON embedding_jobs FROM heimdex_api")
    lacking = [
        "heimdex_api lacks EXECUTE on heimdex_users_total()",
        "heimdex_api lacks UPDATE on embedding_jobs",
        "heimdex_reader lacks SELECT on videos",
    ]
    assert restore_rights(as_role(database_url, MIGRATE)) == lacking
    assert restore_rights(as_role(database_url, MIGRATE)) == []


@pytest.fixture
def bare_existing_url(existing_server: EmbeddedPostgres) -> Iterator[str]:
    """A bare database with pgvector on the server that has none of the roles, entered as a superuser."""
    name = sql.Identifier("bare_of_roles")
    with connect(existing_server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
    url = database_on(existing_server.url, "bare_of_roles")
    with connect(url) as connection:
        connection.execute("CREATE EXTENSION vector")
    try:
        yield url
    finally:
        with connect(existing_server.url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
            drop_roles(connection, "creator", *DatabaseRole)


def drop_roles(connection: psycopg.Connection[dict[str, str]], *roles: str) -> None:
    for role in roles:
        connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))


def test_role_with_create_role_makes_roles_and_migrates(bare_existing_url: str) -> None:
    with connect(bare_existing_url) as connection:
        connection.execute("CREATE ROLE creator LOGIN CREATEROLE")
        connection.execute("ALTER DATABASE bare_of_roles OWNER TO creator")
    creator = as_role(bare_existing_url, "creator")
    apply_migrations(creator)
    with connect(creator) as connection:
        assert (missing_roles(connection), lacking_rights(connection)) == ([], [])
        owner = connection.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'videos'").fetchall()
    assert owner == [{"tableowner": MIGRATE}]
    apply_again(creator, DEFINED_BY)
    with pool_as(bare_existing_url, WORKER) as pool:
        assert len(submit(pool, OWNER, [Submission(uri="s3://bucket/a.mp4")])) == 1


# An existing database


def findings(url: str, **urls: str) -> list[Finding]:
    return list(database_roles(load_settings(database_url=url, **urls)))


def test_migrating_goes_on_where_roles_cannot_be_made(existing_url: str) -> None:
    before = take_snapshot(existing_url)
    apply_migrations(existing_url)
    assert changes_between(before, take_snapshot(existing_url)) == []
    with connect(existing_url) as connection:
        assert missing_roles(connection) == list(DatabaseRole)
    (found,) = findings(existing_url)
    assert found.ok
    for role in DatabaseRole:
        assert f"CREATE ROLE {role} LOGIN;" in found.seen
    with open_pool(existing_url, max_size=1, name="tests") as pool:
        assert len(submit(pool, ANNA, [Submission(uri="s3://bucket/a.mp4")])) == 1


@pytest.fixture
def roles_later(existing_server: EmbeddedPostgres) -> Iterator[str]:
    """An existing database that was migrated before its server had the roles, made as doctor says."""
    with existing_database(existing_server.url) as url:
        apply_migrations(url)
        with connect(existing_server.url, autocommit=True) as connection:
            connection.execute(statements_for(list(DatabaseRole)).encode())
            connection.execute(f"GRANT {OWNER_ROLE} TO {MIGRATE}".encode())
        with connect(entered_as(url, SUPERUSER)) as connection:
            connection.execute(f"GRANT USAGE ON SCHEMA extensions TO {', '.join(DatabaseRole)}".encode())
        restore_rights(url)
        yield url
    with connect(existing_server.url, autocommit=True) as connection:
        connection.execute(f"REVOKE {OWNER_ROLE} FROM {MIGRATE}".encode())
        drop_roles(connection, *DatabaseRole)


def entered_as(url: str, role: str) -> str:
    return url.replace(f"://{OWNER_ROLE}@", f"://{role}@")


def test_api_forgets_where_a_trigger_moves_times(roles_later: str) -> None:
    before = take_snapshot(roles_later)
    with open_pool(entered_as(roles_later, API), max_size=2, name="tests") as api:
        owner_id = only(api, "SELECT owner_id FROM videos WHERE id = %s", clip(26))["owner_id"]
        assert forget(api, [clip(26), clip(27)], owner_id) == [clip(26)]
        with api.connection() as connection:  # a video that is not marked as forgotten keeps what it has
            connection.execute("SELECT heimdex_clear_forgotten(%s, %s)", ([clip(27)], [clip(27)]))
    after = take_snapshot(roles_later)
    row, was = (shot.rows["videos"][str(clip(26))] for shot in (after, before))
    assert (row["filename"], row["full_transcript"], row["exif_metadata"]) == ("forgotten", None, None)
    assert (row["updated_at"], row["storage_path"]) == (was["updated_at"], was["storage_path"])
    assert all(str(clip(26)) in line for line in changes_between(before, after) if line.startswith("videos."))
    with connect(roles_later) as connection:
        states = connection.execute("SELECT tgenabled FROM pg_trigger WHERE tgname = 'update_videos_updated_at'")
        assert states.fetchall() == [{"tgenabled": "O"}]


def test_roles_see_and_write_all_rows_in_spite_of_policies(roles_later: str) -> None:
    before = take_snapshot(roles_later)
    for role in DatabaseRole:
        url = entered_as(roles_later, role)
        refuse_hidden_rows(url)
        with connect(url) as connection:
            assert connection.execute("SELECT count(*) AS n FROM videos").fetchall() == [{"n": 48}]
    with open_pool(entered_as(roles_later, API), max_size=2, name="tests") as api:
        submit(api, ANNA, [Submission(uri="s3://bucket/a.mp4")], origin=Origin.HTTP)
        record_search(api, ANNA, "harbour", 3, 12)
    with open_pool(entered_as(roles_later, WORKER), max_size=2, name="tests") as worker:
        SearchModels(worker).adopt(Retriever.PICTURE, BUNDLED)
        SearchModels(worker).begin(Retriever.PICTURE, WIDE)
        queue = VideoQueue(worker, "first", 60.0)
        (video,) = queue.claim(1)
        SceneStore(worker).replace(video.id, video.lease_token, transcript("a"), scenes(video.id, "a"), 1.0)
        finish(queue, video)
    after = take_snapshot(roles_later)
    assert changes_between(before, after) == []
    new = {table: len(after.rows[table]) - len(rows) for table, rows in before.rows.items()}
    assert {table: count for table, count in new.items() if count} == {
        "videos": 1, "video_scenes": 1, "search_queries": 1
    }  # fmt: skip
    denied_everywhere(roles_later)


def denied_everywhere(url: str) -> None:
    """The roles are closed out of what is the existing system's alone."""
    for role in ROLES:
        with connect(entered_as(url, role), autocommit=True) as connection:
            for table in ("persons", "scene_exports", "auth.users"):
                with pytest.raises(DENIED):
                    connection.execute(f"SELECT * FROM {table}".encode())


def test_owners_membership_lets_the_migrating_role_migrate(roles_later: str) -> None:
    migrate = entered_as(roles_later, MIGRATE)
    with connect(migrate, autocommit=True) as connection:
        for migration in all_migrations():
            connection.execute(migration.text.encode())
    urls = {f"{role.name.lower()}_database_url": entered_as(roles_later, role) for role in DatabaseRole}
    assert [found for found in findings(roles_later, **urls) if not found.ok] == []


def test_rows_that_a_restrictive_policy_hides_are_refused(roles_later: str) -> None:
    with connect(roles_later) as connection:
        connection.execute("CREATE POLICY own_rows ON videos AS RESTRICTIVE USING (owner_id = auth.uid())")
    with pytest.raises(ConfigurationError, match="row-level security hides rows of videos from the role heimdex_api"):
        refuse_hidden_rows(entered_as(roles_later, API))
    found = findings(roles_later, api_database_url=entered_as(roles_later, API))
    assert any(not finding.ok and "hides rows of videos" in finding.seen for finding in found)


def test_doctor_says_who_connects_and_what_is_lacking(database_url: str) -> None:
    own = {f"{role.name.lower()}_database_url": as_role(database_url, role) for role in DatabaseRole}
    (found,) = findings(database_url, **own)
    assert found.ok
    assert "api heimdex_api" in found.seen
    assert "a superuser" not in found.seen
    (plain,) = findings(database_url)
    assert "api postgres, a superuser" in plain.seen
    with connect(database_url) as connection:
        connection.execute("REVOKE INSERT ON videos FROM heimdex_api")
    lacking = findings(database_url, **own)[0]
    assert (lacking.ok, lacking.seen) == (False, "heimdex_api lacks INSERT on videos")
