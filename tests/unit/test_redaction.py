"""Error texts as they are written down: no endpoint, no secret, and to owners no folder of this machine."""

import errno
from pathlib import Path
from typing import Any

import pytest

from actors.workers.worker import failure_of
from cluster.contracts.errors import InvalidVideo, TransientFailure
from cluster.contracts.uris import filename_of, shown
from cluster.security.redaction import redacted, store_reason, without_folders

SIGNED = "?X-Amz-Algorithm=AWS4&X-Amz-Credential=AKIASECRET%2F2026&X-Amz-Signature=topsecret"


@pytest.mark.parametrize(
    ("uri", "seen", "name"),
    [
        (f"https://host/a.mp4{SIGNED}#topsecret", "https://host/a.mp4", "a.mp4"),
        (f"s3://bucket/a.mp4{SIGNED}", "s3://bucket/a.mp4", "a.mp4"),
        ("az://films/a.mp4?sv=2026&sig=topsecret", "az://films/a.mp4", "a.mp4"),
        ("abfs://films@account.dfs.core/a.mp4?sig=topsecret", "abfs://films@account.dfs.core/a.mp4", "a.mp4"),
        ("az://key:topsecret@films/a.mp4", "az://films/a.mp4", "a.mp4"),
        ("s3://key:top/secret@bucket/a.mp4", "s3://bucket/a.mp4", "a.mp4"),
        ("ftp://me:topsecret@host/a.mp4", "ftp://host/a.mp4", "a.mp4"),
        ("https://me:top/secret@host/a.mp4", "https://host/a.mp4", "a.mp4"),
        ("https://me:top?secret@host/a.mp4", "https://host/a.mp4", "a.mp4"),
        ("https://host:8080/@me/a.mp4", "https://host:8080/@me/a.mp4", "a.mp4"),
        ("s3://bucket/a #1?.mp4", "s3://bucket/a #1?.mp4", "a #1?.mp4"),
        ("/videos/a?b=c.mp4", "/videos/a?b=c.mp4", "a?b=c.mp4"),
    ],
)
def test_uri_is_shown_without_query_and_user(uri: str, seen: str, name: str) -> None:
    assert (shown(uri), filename_of(uri)) == (seen, name)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (f"cannot fetch https://me:pw@host/a.mp4{SIGNED}: reset", "cannot fetch https://host/a.mp4: reset"),
        (f'Could not connect to "http://minio:9000/b/k{SIGNED}".', 'Could not connect to "http://minio:9000/b/k".'),
        ("asked (s3://k:pw@b/a?x=y), then left", "asked (s3://b/a), then left"),
        ("X-Amz-Signature=topsecret&X-Amz-Credential=AKIA", "X-Amz-Signature=...&X-Amz-Credential=..."),
        ("Authorization: Bearer topsecret", "Authorization: ..."),
        ("secret_access_key = topsecret, region", "secret_access_key = ..., region"),
        ("no such file: owner/a.mp4", "no such file: owner/a.mp4"),
    ],
)
def test_text_is_redacted(text: str, seen: str) -> None:
    assert redacted(text) == seen
    assert redacted(seen) == seen


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("the disk is full: /srv/heimdex scratch/x", "the disk is full: ..."),
        ("not enough space in /srv/scratch for 4 bytes", "not enough space in ... for 4 bytes"),
        ("cannot write to /srv/scratch: Read-only file system", "cannot write to ...: Read-only file system"),
        ("unexpected KeyError: '/home/ann/.aws/credentials'", "unexpected KeyError"),
        ("no such file: s3://bucket/films/a.mp4", "no such file: s3://bucket/films/a.mp4"),
        ("3 m/s and/or 1 / 2", "3 m/s and/or 1 / 2"),
    ],
)
def test_owner_reads_no_folder_of_this_machine(text: str, seen: str) -> None:
    assert without_folders(text) == seen


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EIO, f"PUT http://minio:9000/b{SIGNED}"), "Input/output error"),
        (OSError(errno.EBUSY, "Please reduce your request rate."), "Please reduce your request rate."),
        (PermissionError(errno.EACCES, "Permission denied", "/srv/private/x"), "Permission denied"),
        (ConnectionError("Cannot connect to host minio:9000"), "the store cannot be reached"),
        (RuntimeError("key AKIASECRET99 of arn:aws:iam::123"), "the store failed (RuntimeError)"),
        (TimeoutError("10.0.0.7"), "no answer in time"),
    ],
)
def test_store_reason_is_words_alone(error: Exception, reason: str) -> None:
    assert store_reason(error) == reason


def test_failure_in_the_ledger_has_no_secret() -> None:
    for error in (
        TransientFailure(f"cannot fetch https://host/a{SIGNED}"),
        RuntimeError(f"GET s3://b/a{SIGNED} failed"),
    ):
        assert "SECRET" not in (message := failure_of(error).message)
        assert "topsecret" not in message


def test_local_file_of_a_command_is_named_in_full(tmp_path: Path) -> None:
    error: Any = InvalidVideo(f"no such file: {tmp_path}/a.mp4")
    assert failure_of(error).message == f"no such file: {tmp_path}/a.mp4"
