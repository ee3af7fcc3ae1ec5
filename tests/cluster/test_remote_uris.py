"""Videos that are not on this machine: http and s3, against real servers on 127.0.0.1."""

from pathlib import Path

import boto3

from cluster.demo import clips
from tests.support.command_line import CommandLine


def test_videos_are_fetched_over_http_and_a_missing_one_is_named(heimdex: CommandLine, web_server: str) -> None:
    there, missing = heimdex.json("process", f"{web_server}/{clips()[0].name}", f"{web_server}/missing.mp4")
    assert (there["status"], there["filename"]) == ("READY", clips()[0].name)
    assert (missing["status"], missing["processing_stage"]) == ("FAILED", "downloading")
    assert "404" in missing["error_message"]
    scratch = Path(heimdex.environment["HEIMDEX_SCRATCH_DIR"])
    assert list(scratch.rglob("*.mp4")) == []


def test_videos_are_fetched_from_s3(heimdex: CommandLine, s3_settings: dict[str, str]) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=s3_settings["AWS_ENDPOINT_URL"],
        aws_access_key_id=s3_settings["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=s3_settings["AWS_SECRET_ACCESS_KEY"],
        region_name=s3_settings["AWS_DEFAULT_REGION"],
    )
    client.create_bucket(Bucket="videos")
    client.upload_file(str(clips()[0]), "videos", "folder/clip.mp4")
    there, missing = heimdex.json("process", "s3://videos/folder/clip.mp4", "s3://videos/folder/missing.mp4")
    assert (there["status"], there["filename"]) == ("READY", "clip.mp4")
    assert (missing["status"], missing["processing_stage"]) == ("FAILED", "downloading")
