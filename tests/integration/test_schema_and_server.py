"""The OpenAPI document and the server agree: Schemathesis asks the real application whatever the document allows, and
what it forbids, with the tokens of a user and of an admin, on a real server and a real Postgres.

All its checks are on: no server error, no answer that is not described, nothing refused that the document allows,
nothing accepted that it forbids, no route without its token, no 405 without ``Allow``.
"""

import json
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cluster.contracts.stages import WorkerKind
from cluster.contracts.videos import Submission
from cluster.store.postgres.connections import Pool
from cluster.store.queue.submissions import cancel, submit
from cluster.store.queue.worker_registry import SCHEDULER_KIND
from serve_app.development_tokens import mint_token
from serve_app.limits import ApiLimits
from tests.support.api_client import ADMIN, ALICE, SECRET, ApiMaker
from tests.support.searchable import Scene, add_video
from tests.support.served_api import serving

SEED = 17
EXAMPLES = 10
"""Requests by chance of each kind and route, beside those of all boundaries (several hundred per route)."""
LARGE = ApiLimits(
    max_body_bytes=8 * 1024**2,
    request_timeout_s=30.0,
    submissions_per_minute=10**9,
    requests_per_minute=10**6,
    searches_per_minute=10**6,
    anonymous_per_minute=10**6,
)
"""The limits of a minute are other tests'."""


def add_videos(pool: Pool, owner_id: UUID) -> dict[str, list[str]]:
    """Videos of an owner in every state, and where they are in addresses."""
    scenes = add_video(pool, owner_id, [Scene("the tide is low", "red", ("sea",)), Scene("", "blue")])
    waiting = submit(pool, owner_id, [Submission(uri=f"https://example.org/{n}.mp4") for n in range(6)])
    cancel(pool, waiting[:2], owner_id)
    with pool.connection() as connection:
        connection.execute("UPDATE videos SET status = 'FAILED', error_message = 'x' WHERE id = %s", (waiting[2],))
        videos = connection.execute("SELECT id FROM videos WHERE owner_id = %s", (owner_id,)).fetchall()
    return {"video_id": [str(row["id"]) for row in videos], "scene_id": [str(scene) for scene in scenes]}


def add_workers(pool: Pool) -> None:
    """Workers of every kind that were seen: without them /readyz is a 503, which no check takes for right."""
    with pool.connection() as connection:
        for kind in (SCHEDULER_KIND, *WorkerKind):
            connection.execute(
                "INSERT INTO cluster_workers (worker, scheduler, kind, node, device, state) "
                "VALUES (%s, 's', %s, 'n', 'cpu', 'idle')",
                (f"{kind}-1", kind),
            )


def configuration(user_id: UUID, known: dict[str, list[str]]) -> str:
    token = mint_token(SECRET, user_id, timedelta(hours=1))
    places = {**known, "user_id": [str(ALICE), str(ADMIN)]}
    return "\n".join(
        [
            f"seed = {SEED}",
            "[cache]",
            "enabled = false",
            "[generation]",
            f"max-examples = {EXAMPLES}",
            "deterministic = true",
            # It guesses which field of an answer leads to which route, also where the field is null.
            "[phases.stateful.checks.positive_data_acceptance]",
            "enabled = false",
            "[auth.openapi.HTTPBearer]",
            f'bearer = "{token}"',
            *(f"[dictionaries.{name}]\nvalues = {json.dumps(values)}" for name, values in places.items()),
            "[parameters]",
            *(f'"path.{name}" = {{ dictionary = "{name}", probability = 0.5 }}' for name in places),
        ]
    )


def ask(place: tuple[str, int], folder: Path, settings: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run Schemathesis; exit status 0: it found nothing."""
    folder.mkdir(exist_ok=True)
    (folder / "schemathesis.toml").write_text(settings)
    command = [sys.executable, "-m", "schemathesis.cli", "--no-color", "run", "--continue-on-failure", *options]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HEIMDEX_")},
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "SCHEMATHESIS_HOOKS": "tests.support.sent_pictures",
    }
    host, port = place
    return subprocess.run(
        [*command, f"http://{host}:{port}/openapi.json"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.mark.parametrize("user_id", [ALICE, ADMIN], ids=["user", "admin"])
def test_server_does_what_its_document_says(make_api: ApiMaker, pool: Pool, tmp_path: Path, user_id: UUID) -> None:
    known = add_videos(pool, user_id)
    add_workers(pool)
    with serving(make_api(limits=LARGE, worker_silence_s=3600.0)) as place:
        found = ask(place, tmp_path, configuration(user_id, known))
    assert found.returncode == 0, found.stdout[-12_000:] + found.stderr[-2_000:]
    assert "FAILURES" not in found.stdout
    (made,) = re.findall(r"([0-9]+) generated", found.stdout)
    assert int(made) > 1000, found.stdout[-3_000:]


def test_disagreement_is_found(make_api: ApiMaker, pool: Pool, tmp_path: Path) -> None:
    """The test above can fail: here the document forgets an answer and forbids what is accepted."""
    api = make_api(limits=LARGE)
    document: dict[str, Any] = api.app.openapi()  # type: ignore[attr-defined]
    listing = document["paths"]["/v1/videos"]["get"]
    del listing["responses"]["400"]
    (page,) = (one for one in listing["parameters"] if one["name"] == "page")
    page["schema"]["maximum"] = 10
    with serving(api) as place:
        found = ask(place, tmp_path, configuration(ALICE, {}), "--include-operation-id", listing["operationId"])
    assert found.returncode == 1, found.stdout
    assert "ST103 Undocumented status code" in found.stdout
    assert "ST201 Schema-violating request accepted" in found.stdout
