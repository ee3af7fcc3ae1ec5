"""How-to pages for a cluster that is up, word for word: own-videos.md, search.md, batches.md, s3.md, owners.md, gpu.md
and stuck-video.md.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from cluster.demo import clips
from tests.support.command_line import CommandLine
from tests.support.own_server import quick_folder
from tests.support.page_blocks import DOCS, blocks_run_by, make_programs, run_blocks

THIS = Path(__file__)
CLIPS = {clip.name: clip for clip in clips()}
READERS = {
    "own-videos.md": "READY",
    "batches.md": "submitted 1 video",  # the other one is known from the page before
    "search.md": "tides.mp4",
    "s3.md": "1 of 1 video READY",
    "owners.md": "forget",
    "stuck-video.md": "transcription",
    "gpu.md": "sandbox",
}
"""Pages in the order in which they are read, each with what its commands print at least."""


@pytest.fixture(scope="module")
def folder(s3_settings: dict[str, str]) -> Iterator[Path]:
    """The reader's folder: a folder of talks, a lecture; and a film in a bucket."""
    made = quick_folder("heimdex-page-")
    (made / "talks").mkdir()
    shutil.copy(CLIPS["tides.mp4"], made / "talks")
    shutil.copy(CLIPS["winter.mp4"], made / "lecture.mp4")
    store = boto3.client(
        "s3",
        endpoint_url=s3_settings["AWS_ENDPOINT_URL"],
        region_name=s3_settings["AWS_DEFAULT_REGION"],
        aws_access_key_id=s3_settings["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=s3_settings["AWS_SECRET_ACCESS_KEY"],
    )
    store.create_bucket(Bucket="bucket")
    store.upload_file(str(CLIPS["tides.mp4"]), "bucket", "film.mp4")
    yield made
    shutil.rmtree(made)


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_page_commands_one_page_after_the_other_succeed(heimdex: CommandLine, folder: Path) -> None:
    environment = {
        **heimdex.environment,
        "PATH": make_programs(folder / "bin"),
        "PYTHONPATH": str(DOCS.parent) + os.pathsep + os.environ.get("PYTHONPATH", ""),
        "COLUMNS": "160",
    }
    for page, printed in READERS.items():
        said = run_blocks(blocks_run_by(THIS, DOCS / "how-to" / page), environment, folder, timeout_s=600)
        assert printed in said, page
