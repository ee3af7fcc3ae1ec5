"""Every command on a database as strict as a real one: how it ends, what it prints, which foreign values it changes."""

import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import typer.main
from typer.testing import CliRunner

from cluster.cli.main import app
from cluster.contracts.errors import HeimdexError
from cluster.models.text import load_text_model
from cluster.models.vision import load_vision_model
from cluster.store.postgres.connections import EmbeddedPostgres, open_pool
from cluster.store.postgres.migrations import apply_migrations
from tests.support.existing_database import (
    ANNA,
    CARA,
    STRANGER,
    Snapshot,
    clip,
    existing_database,
    restore_existing_functions,
    take_snapshot,
)
from tests.support.json_output import check_json
from tests.support.queued_videos import OWNER
from tests.support.strict_world import (
    CANCELLED,
    FAILED,
    FINISHED,
    FORGOTTEN,
    STATE,
    WAITING,
    add_own,
    added,
    own,
    shape_changes,
    unexpected,
)

NOWHERE = UUID(int=0xDEAD)
NEEDS_RAY = {
    "up": "starts a cluster",
    "down": "ends a cluster",
    "env": "describes a cluster that is up",
    "process": "starts a cluster; test_existing_processing has the way of a video",
    "demo": "starts a cluster on a database of its own",
}
"""Commands that are not run here, and why; tests/cluster/test_adopt.py runs Ray on such a database."""


@dataclass(frozen=True)
class Strict:
    """The database, the folder in which the commands run, and what was there before the migrations."""

    url: str
    folder: Path
    original: Snapshot


@dataclass(frozen=True)
class Case:
    """A command line, its exit status, words of its output, and what it may change."""

    typed: str
    status: int = 0
    says: tuple[str, ...] = ()
    owner: UUID = CARA
    written: frozenset[str] = frozenset()
    of: tuple[UUID, ...] = ()
    scenes: bool = False
    adds: tuple[tuple[str, int], ...] = ()
    first: Callable[[str], object] = take_snapshot


def changes(typed: str, number: UUID, *says: str, **asked: Any) -> Case:
    return Case(typed.format(number), 0, says, written=STATE, of=(number,), **asked)


SEARCHED = (("search_queries", 1),)
BACKFILLED = tuple(clip(number) for number in range(1, 49))
PENDING = tuple(clip(number) for number in range(4, 49, 4))
CASES: dict[str, list[Case]] = {
    "adopt": [
        Case("adopt --dry-run", says=("12 PROCESSING videos", "12 videos are PENDING elsewhere")),
        Case("adopt --dry-run --json", says=('"dry": true',)),
        Case("adopt --take-over --dry-run", 1, ("2 videos would be queued", "10 videos stay as they are")),
        Case("adopt --take-over --dry-run --json", 1, ('"its file cannot be read": 10',)),
        Case("adopt --take-over", 1, ("2 videos are queued",), written=STATE, of=(clip(4), clip(8))),
        Case("adopt --failed", 2, ("--take-over",)),
    ],
    "migrate": [
        Case("migrate", says=("up to date",)),
        Case("migrate", says=("restored", "up to date"), first=restore_existing_functions),
    ],
    "doctor": [
        Case("doctor", says=("videos of", "those of the migrations")),
        Case("doctor", 1, ("knows no owner",), owner=STRANGER),
        Case("doctor", 1, ("heimdex migrate",), first=restore_existing_functions),
        Case("migrate", says=("restored",)),
        Case("doctor"),
    ],
    "backfill": [
        Case("backfill --dry-run", says=("12 videos would be backfilled",)),
        Case(
            "backfill",
            says=("12 videos were backfilled",),
            written=frozenset({"processing_finished_at"}),
            of=BACKFILLED,
        ),
        Case("backfill", says=("0 videos were backfilled",)),
    ],
    "token": [Case("token", says=(".",)), Case(f"token --sub {ANNA}", says=(".",))],
    "audit": [Case("audit", says=("cancel video:",)), Case("audit --json", says=("[",))],
    "db url": [Case("db url", says=("postgresql://existing_owner@",))],
    "db start": [Case("db start", 2, ("HEIMDEX_DATABASE_URL is set",))],
    "db roles": [Case("db roles", says=("CREATE ROLE heimdex_worker",))],
    "db programs": [Case("db programs", says=("bin",))],
    "status": [Case("status"), Case("status --json", says=("{",))],
    "submit": [
        Case("submit s3://ours/new.mp4", says=("submitted 1 video",), adds=(("videos", 1),)),
        Case("submit s3://ours/new.mp4 --json", says=('"PENDING"',), adds=(("videos", 1),)),
        Case("submit s3://ours/new.mp4", 2, ("knows no owner",), owner=STRANGER),
    ],
    "search": [
        Case("search harbour", says=("clip-6.mp4", "words"), adds=SEARCHED),
        Case("search harbour --json --by words --limit 100", says=('"filename": null',), adds=SEARCHED),
        Case("search tide", says=("tide",), adds=SEARCHED),
        Case("search harbour", says=("Nothing was found",), owner=STRANGER, adds=SEARCHED),
        Case("search harbour --image nowhere.png", 2),
    ],
    "transcript": [
        *(Case(f"transcript {clip(6)} --format {name}", says=("harbour",)) for name in ("txt", "vtt", "srt", "json")),
        Case(f"transcript {CARA}/clip-10.mp4", says=("harbour",)),
        Case(f"transcript {clip(4)}", 1, ("no transcript yet",), owner=ANNA),
        Case(f"transcript {clip(6)}", 1, ("no such video",), owner=ANNA),
    ],
    "quarantine": [
        Case("quarantine", says=("20 videos failed",)),
        Case("quarantine --json", says=('"filename": null',)),
        Case("quarantine --stage metadata", says=("8 videos failed",)),
    ],
    "list": [
        Case("list --limit 100", says=("READY", "FAILED", str(clip(6)))),
        Case(f"list --owner {CARA} --status ready --json", says=('"filename": null', '"batch": null')),
    ],
    "show": [
        Case(f"show {clip(6)}", says=(str(clip(6)), "READY")),
        Case(f"show {clip(6)} --json", says=('"stages": []',)),
        Case("show clip-6.mp4", says=("READY",)),
        Case(f"show {NOWHERE}", 1, ("no such video",)),
    ],
    "watch": [
        Case(f"watch {clip(6)}", says=("1 of 1 video READY",)),
        Case("watch --batch none", 1, ("no such batch",)),
        Case("watch", 1, ("heimdex up",)),
    ],
    "logs": [Case("logs"), Case("logs --json --video " + str(clip(6)))],
    "top": [Case("top", 1, ("needs a terminal",))],
    "tags": [Case("tags", says=("scene",)), Case("tags --json", says=("[",))],
    "cancel": [
        changes("cancel {}", own(WAITING[0]), "cancelled 1 video"),
        Case(f"cancel {clip(12)} {clip(5)} {clip(10)}", 1, ("cancelled 0 videos", "not cancelled")),
    ],
    "retry": [
        changes("retry {}", own(FAILED[0]), "1 video waits again"),
        changes("retry {}", own(CANCELLED[0]), "1 video waits again"),
        changes("retry {}", clip(23), "1 video waits again"),
        Case(f"retry {clip(12)} {clip(5)}", 1, ("0 videos wait again",)),
        Case("retry --stage metadata", says=("0 videos wait again", "7 more can never succeed")),
        Case(
            "retry --stage metadata --error-type InvalidVideo --dry-run",
            says=("7 videos would be tried again", str(own(FAILED[1]))),
        ),
        Case(
            "retry --stage metadata --error-type InvalidVideo",
            says=("7 videos wait again",),
            written=STATE,
            of=tuple(own(number) for number in FAILED[1:]),
        ),
    ],
    "reprocess": [
        changes("reprocess {} --language de", own(FINISHED[0]), "1 video waits"),
        changes("reprocess {}", clip(18), "1 video waits"),
        Case(f"reprocess {clip(12)} {clip(5)} {NOWHERE}", 1, ("0 videos wait", "not queued")),
    ],
    "forget": [
        *(
            Case(f"forget {number} --yes", 0, ("1 video is forgotten",), written=FORGOTTEN, of=(number,), scenes=True)
            for number in (clip(14), clip(30), own(FINISHED[1]))
        ),
        Case(f"forget {clip(5)} --yes", 1, ("another system has it in work",), owner=UUID(int=0xA1)),
        Case(f"forget {clip(6)} --yes", 1, ("there is no such video",), owner=ANNA),
        Case(
            f"forget {CARA}/clip-34.mp4 --yes --with-file",
            0,
            ("1 video is forgotten",),
            written=FORGOTTEN | {"storage_path"},
            of=(clip(34),),
            scenes=True,
        ),
    ],
    "reembed": [
        Case("reembed --drop-old", says=("old vectors were dropped",)),
        Case("reembed --rollback", 2),
    ],
    "index status": [Case("index status", says=("Postgres",)), Case("index status --json", says=('"engine"',))],
    "index verify": [
        # Their words are indexed; that their meanings are not embedded is true, and `adopt` does it.
        Case("index verify", 1, ("0 missing, 0 extra", "0 stale by content", "stale by model")),
        Case("index verify --repair --json", 1, ('"missing": 0', '"stale_by_content": 0')),
    ],
    "index rebuild": [Case("index rebuild", says=("Postgres",))],
}


@pytest.fixture(scope="module")
def strict(existing_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strict]:
    """One database for all cases, each of which has videos of its own."""
    folder = tmp_path_factory.mktemp("strict")
    for path in (f"{ANNA}/clip-4.mp4", f"{ANNA}/clip-8.mp4", f"{CARA}/clip-34.mp4"):
        (folder / "stored" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "stored" / path).write_bytes(b"a video")
    with existing_database(existing_server.url) as url:
        original = take_snapshot(url)
        apply_migrations(url)
        with open_pool(url, max_size=4, name="tests") as pool:
            vision = load_vision_model("bundled", None, "cpu").key
            add_own(pool, url, vision, load_text_model("bundled", "cpu").key)
        yield Strict(url, folder, original)


def settings(strict: Strict, owner: UUID) -> Mapping[str, str]:
    return {
        "HEIMDEX_DATABASE_URL": strict.url,
        "HEIMDEX_DATA_DIR": str(strict.folder / "data"),
        "HEIMDEX_SCRATCH_DIR": str(strict.folder / "scratch"),
        "HEIMDEX_STORAGE_ROOT": str(strict.folder / "stored"),
        "HEIMDEX_OWNER_ID": str(owner),
        "HEIMDEX_ADMIN_USER_IDS": str(OWNER),
        "HEIMDEX_HTTP_PORT": "0",
        "HEIMDEX_DASHBOARD_PORT": "0",
        "COLUMNS": "200",
        **{f"HEIMDEX_{name}_MODEL": "bundled" for name in ("WHISPER", "CLIP", "TEXT")},
    }


def type_in(strict: Strict, case: Case) -> tuple[int, str]:
    """The exit status and all output, as ``main`` ends the process."""
    result = CliRunner().invoke(app, case.typed.split(), env=settings(strict, case.owner))
    error = result.exception
    if isinstance(error, HeimdexError):
        assert "\n" not in str(error)
        return 2, f"{result.output}error: {error}"
    if not isinstance(error, HeimdexError):
        check_json(case.typed.split(), result.stdout)
    assert error is None or isinstance(error, SystemExit), "".join(traceback.format_exception(error))
    return result.exit_code, result.output


@pytest.mark.parametrize("command", CASES)
def test_command_on_existing_database_changes_its_own(strict: Strict, command: str) -> None:
    for case in CASES[command]:
        case.first(strict.url)
        before = take_snapshot(strict.url)
        status, output = type_in(strict, case)
        after = take_snapshot(strict.url)
        assert status == case.status, (case.typed, output)
        assert all(words in output for words in case.says), (case.typed, output)
        assert "Traceback" not in output
        assert unexpected(before, after, case.written, case.of, case.scenes) == [], case.typed
        assert added(before, after) == dict(case.adds), case.typed


def test_tables_keep_their_columns_and_statuses(strict: Strict) -> None:
    assert shape_changes(strict.original, take_snapshot(strict.url)) == []


def test_every_command_has_a_case() -> None:
    assert set(names(typer.main.get_command(app))) == set(CASES) | set(NEEDS_RAY)
    assert not set(CASES) & set(NEEDS_RAY)


def names(command: Any, before: tuple[str, ...] = ()) -> Iterator[str]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield " ".join(before)
        return
    for name, each in inner.items():
        yield from names(each, (*before, name))
