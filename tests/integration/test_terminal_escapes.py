"""Every command on a database in which every text gives orders to terminals: none of them reaches one."""

import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from cluster.cli import main
from cluster.cli.report import print_bad_rows, print_failures, print_summary, print_warnings
from cluster.cli.terminal import VisibleConsole
from cluster.cli.watch import watch
from cluster.contracts.stages import Stage
from cluster.contracts.videos import Submission
from cluster.store.postgres.connections import Pool
from cluster.store.queue.submissions import submit
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.queue.worker_registry import WorkerRegistry, WorkerState
from cluster.store.videos.progress import read_results
from cluster.store.videos.scenes import SceneStore
from tests.support.queued_videos import OWNER, begin, finish, transcript

NASTY = "a\x1b[2J\x1b]0;t\x07\x9b31m\x7f\r\u202e\u2066\u200f\u2028[red]b"
WITHOUT = {"up", "down", "env", "process", "demo", "reembed"}
"""They start a cluster; what they print is below, by the functions that print it."""


@dataclass(frozen=True)
class Ran:
    """The end of a command, and its output."""

    status: int
    out: str
    err: str


Command = Callable[..., Ran]


@pytest.fixture
def heimdex_here(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """Runs a command within this process: dozens of them take seconds otherwise."""
    import logging
    import signal

    for name in [name for name in os.environ if name.startswith("HEIMDEX_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HEIMDEX_DATABASE_URL", database_url)
    monkeypatch.setenv("HEIMDEX_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HEIMDEX_OWNER_ID", str(OWNER))
    for kind in ("CLIP", "TEXT"):
        monkeypatch.setenv(f"HEIMDEX_{kind}_MODEL", "bundled")
    monkeypatch.chdir(tmp_path)
    factory, hook, handler = logging.getLogRecordFactory(), sys.excepthook, signal.getsignal(signal.SIGTERM)

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["heimdex", *arguments])
        with pytest.raises(SystemExit) as ended:
            main.main()
        printed = capsys.readouterr()
        return Ran(int(ended.value.code or 0), printed.out, printed.err)

    yield run
    logging.setLogRecordFactory(factory)
    sys.excepthook = hook
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def videos(pool: Pool) -> dict[str, UUID]:
    """A video that is READY, one FAILED, one on its way, one that waits for a reason; all of their texts are nasty."""
    ready, failed, moving, waiting = submit(pool, OWNER, [Submission(uri=f"s3://bucket/{n}.mp4") for n in range(4)])
    queue = VideoQueue(pool, "scheduler", 60.0)
    claimed = {video.id: video for video in queue.claim(4)}
    SceneStore(pool).replace(ready, claimed[ready].lease_token, transcript(f"low tide {NASTY} end"), [], 3.0)
    finish(queue, claimed[ready])
    begin(pool, claimed[moving], Stage.DOWNLOADING)
    with pool.connection() as connection:
        for statement in (
            "INSERT INTO audit_log (actor_kind, actor, action, object_kind, object, details) VALUES "
            "('command', %(nasty)s, %(nasty)s, %(nasty)s, %(nasty)s, jsonb_build_object('why', %(nasty)s::text))",
            "DELETE FROM video_leases WHERE video_id IN (%(failed)s, %(waiting)s)",
            "UPDATE videos SET filename = %(nasty)s, storage_path = storage_path || %(nasty)s",
            "UPDATE videos SET status = 'FAILED', processing_stage = 'metadata' WHERE id = %(failed)s",
            "UPDATE videos SET status = 'PENDING' WHERE id = %(waiting)s",
            "UPDATE videos SET error_message = %(nasty)s WHERE id IN (%(failed)s, %(waiting)s)",
            "UPDATE video_processing SET warnings = jsonb_build_array("
            "jsonb_build_object('code', 'file_cut_off', 'message', %(nasty)s::text))",
            "INSERT INTO video_scenes (id, video_id, index, start_s, end_s, transcript_segment, tags, thumbnail_url, "
            "text_index) VALUES (gen_random_uuid(), %(ready)s, 0, 0, 3, 'low tide ' || %(nasty)s, ARRAY[%(nasty)s], "
            "'file:///' || %(nasty)s, heimdex_text_index('low tide', 'simple'))",
        ):
            named = {"ready": ready, "failed": failed, "waiting": waiting, "nasty": NASTY}
            connection.execute(statement, named)
    states = [
        WorkerState("scheduler", "scheduler", NASTY, "cpu", None, "busy", 0.0, None, NASTY),
        WorkerState(f"scheduler/{NASTY}", "media", NASTY, NASTY, NASTY, "busy", 1.0, 1, None),
    ]
    WorkerRegistry(pool, "scheduler").announce(states)
    return {"ready": ready, "failed": failed, "moving": moving, "waiting": waiting}


def check(text: str) -> None:
    hidden = {letter for letter in text if unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Zl", "Zp"}} - {"\n"}
    assert hidden == set(), text


def calls(ready: UUID, folder: Path) -> dict[str, list[list[str]]]:
    """The calls of each command with which it shows what others wrote; ``--json`` beside it where it takes that."""
    bad, video = folder / f"rows {NASTY.replace('/', '')}.jsonl", folder / NASTY.replace("/", "")
    bad.write_text(json.dumps({"uri": f"http://host/{NASTY}"}) + "\n" + json.dumps({NASTY: 1}) + "\n")
    video.write_bytes(b"")
    return {
        "status": [[], ["--all"]],
        "top": [[]],
        "list": [[]],
        "show": [[str(ready)], [NASTY]],
        "watch": [[str(ready)], [NASTY]],
        "tags": [[], [NASTY]],
        "submit": [["--manifest", str(bad)], [f"gopher://{NASTY}"], [str(folder / f"no {NASTY}.mp4")], [str(video)]],
        "search": [["tide", "--by", "words"], ["--image", str(video)], ["--by", NASTY, "tide"]],
        "transcript": [
            [str(ready)],
            [str(ready), "--format", "vtt"],
            [NASTY],
            [str(ready), "--output", f"/no/{NASTY}"],
        ],
        "quarantine": [[]],
        "cancel": [[NASTY]],
        "retry": [[NASTY], ["--failed", "--dry-run"]],
        "reprocess": [[str(ready), "--language", NASTY]],
        "index status": [[]],
        "index verify": [[]],
        "index rebuild": [[]],
        "audit": [[], ["--since", NASTY]],
        "adopt": [["--dry-run"], ["--dry-run", "--take-over"]],
        "doctor": [[]],
        "migrate": [[]],
        "backfill": [["--dry-run"]],
        "logs": [[], ["--since", NASTY]],
        "token": [["--sub", NASTY]],
        "db url": [[]],
        "db start": [[]],
        "db roles": [[]],
        "db programs": [[]],
        "forget": [[NASTY, "--yes"], [str(ready), "--yes"]],
    }


def commands() -> dict[str, bool]:
    """Every command by its words, and whether it takes ``--json``."""

    def below(group: Any, words: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
        for name, command in group.commands.items():
            if isinstance(command, TyperGroup):
                yield from below(command, (*words, name))
            else:
                takes_json = any("--json" in parameter.opts for parameter in command.params)
                yield " ".join([*words, name]), takes_json

    return dict(below(get_command(main.app), ()))


def _without_marks(document: str) -> str:
    """A document in a pipe keeps its marks of direction, which Arabic and Hebrew need; a terminal is tested below."""
    return "".join(letter for letter in document if unicodedata.category(letter) != "Cf")


def test_no_command_passes_an_order_to_the_terminal(
    heimdex_here: Command, videos: dict[str, UUID], tmp_path: Path
) -> None:
    walked, all_commands = calls(videos["ready"], tmp_path), commands()
    assert set(walked) | WITHOUT == set(all_commands), "call the new command here too"
    shown = ""
    for name, ways in walked.items():
        for arguments in ways:
            ran = heimdex_here(*name.split(), *arguments)
            check(_without_marks(ran.out) if name == "transcript" else ran.out)
            check(ran.err)
            shown += ran.out + ran.err
            if all_commands[name] and name not in {"submit", "search", "adopt"}:
                with_json = heimdex_here(*name.split(), *arguments, "--json")
                check(with_json.out + with_json.err)
    for part in ("\\u001b[2J", "\\u202e", "\\u2066", "\\u200f", "\\u2028", "[red]b"):
        assert part in shown


def test_json_of_commands_is_exact(heimdex_here: Command, videos: dict[str, UUID]) -> None:
    (failed,) = json.loads(heimdex_here("quarantine", "--json").out)
    assert failed["id"] == str(videos["failed"])
    assert failed["error_message"] == NASTY
    (found,) = json.loads(heimdex_here("search", "tide", "--by", "words", "--json").out)
    assert found["tags"] == [NASTY]


def test_transcript_is_exact_but_on_a_terminal(
    heimdex_here: Command, videos: dict[str, UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = heimdex_here("transcript", str(videos["ready"]), "--format", "json").out
    assert json.loads(exact)["segments"][0]["text"].strip() == f"low tide {NASTY} end"
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda _: True, raising=False)
    for wanted in ("json", "txt", "vtt", "srt"):
        check(heimdex_here("transcript", str(videos["ready"]), "--format", wanted).out)


def test_progress_and_summary_pass_no_order(
    pool: Pool, videos: dict[str, UUID], capsys: pytest.CaptureFixture[str]
) -> None:
    with pool.connection() as connection:
        connection.execute("UPDATE videos SET status = 'FAILED' WHERE status IN ('PENDING', 'PROCESSING')")
    ids = list(videos.values())
    watch(pool, ids, VisibleConsole(stderr=True))
    results = read_results(pool, ids)
    print_summary(results)
    print_warnings(results)
    print_failures(results)
    print_bad_rows(NASTY, [])
    printed = capsys.readouterr()
    check(printed.out + printed.err)
    assert "\\u001b[2J" in printed.err
