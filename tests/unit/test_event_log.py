"""Events: their fields, what is hidden in them, and steps that fail again and again."""

import logging
from typing import Any

import pytest

from cluster.contracts.errors import DatabaseUnavailable
from cluster.contracts.events import Event
from cluster.security.event_log import EventLog, FailingSteps, log_fields, set_fields_of_process, text_of

logger = EventLog("cluster.test")


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def fields(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.__dict__["event_fields"] for record in caplog.records]


def test_event_has_fields_of_process_call_and_line(caplog: pytest.LogCaptureFixture) -> None:
    set_fields_of_process(worker="media-1", node="127.0.0.1")
    with log_fields(video_id="abc", attempt=2):
        with log_fields(stage="metadata"):
            logger.info(Event.STAGE_DEFECT, pictures=3)
        logger.info(Event.RETRY_SCHEDULED)
    logger.info(Event.WORKER_STARTED)
    process = {"worker": "media-1", "node": "127.0.0.1"}
    assert fields(caplog) == [
        {**process, "video_id": "abc", "attempt": 2, "stage": "metadata", "pictures": 3},
        {**process, "video_id": "abc", "attempt": 2},
        process,
    ]
    assert list(fields(caplog)[0]) == ["video_id", "attempt", "stage", "pictures", "worker", "node"]


def test_text_has_the_sentence_then_the_fields() -> None:
    said = {"error": "no connection", "scheduler": "s-1", "retry_s": 1.0, "name": "a b", "video_ids": ["x", "y"]}
    assert text_of(Event.CLAIM_FAILED, said) == (
        'claim failed: no connection (scheduler=s-1 retry_s=1.0 name="a b" video_ids=x,y)'
    )
    assert text_of(Event.WORK_UNBLOCKED, {}) == "work unblocked"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("error", "GET https://a.example/v.mp4?sig=hidden-7 failed"),
        ("error", ConnectionError("postgresql://user:hidden-7@127.0.0.1/db is away")),
        ("error", "Authorization: Bearer hidden-7hidden-7hidden-7"),
        ("password", "hidden-7"),
        ("uris", ["https://user:hidden-7@a.example/b"]),
    ],
)
def test_event_holds_no_secret(caplog: pytest.LogCaptureFixture, name: str, value: Any) -> None:
    logger.warning(Event.CLAIM_FAILED, **{name: value})
    assert "hidden-7" not in caplog.text
    assert "hidden-7" not in str(fields(caplog))
    assert next(iter(fields(caplog)[0])) == name


def test_lease_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    logger.warning(Event.LEASE_LOST, lease=1234567890123)
    assert fields(caplog) == [{"lease": 1234567890123}]


def test_text_of_others_moves_no_terminal(caplog: pytest.LogCaptureFixture) -> None:
    logger.warning(Event.STAGE_FAILED, error="\x1b[2J\u202eabc\r\nsecond line", name="two\nlines")
    assert fields(caplog) == [{"error": "\\u001b[2J\\u202eabc\\r\\nsecond line", "name": "two\\nlines"}]


def test_error_is_its_first_line_and_its_type(caplog: pytest.LogCaptureFixture) -> None:
    logger.warning(Event.CLAIM_FAILED, error=ValueError("violates a rule\nDETAIL: Failing row contains (Anna)"))
    assert fields(caplog) == [{"error": "violates a rule", "error_type": "ValueError"}]


def test_long_value_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    logger.warning(Event.STAGE_FAILED, error="a " * 5000)
    assert len(fields(caplog)[0]["error"]) == 2000


def test_failing_step_is_logged_once_per_reason(caplog: pytest.LogCaptureFixture) -> None:
    steps = FailingSteps(logger)
    steps.note_success(Event.CLAIM_FAILED)
    for error in (DatabaseUnavailable("away"), DatabaseUnavailable("away"), KeyError("a"), KeyError("a")):
        steps.note_failure(Event.CLAIM_FAILED, error, retry_s=1.0)
    steps.note_success(Event.CLAIM_FAILED)
    steps.note_success(Event.CLAIM_FAILED)
    assert [(record.levelname, record.exc_info is not None) for record in caplog.records] == [
        ("WARNING", False),
        ("ERROR", True),
        ("INFO", False),
    ]
    assert fields(caplog)[0] == {"error": "away", "retry_s": 1.0, "error_type": "DatabaseUnavailable"}
    assert fields(caplog)[2] == {"after": "claim failed"}
    steps.note_failure(Event.CLAIM_FAILED, DatabaseUnavailable("away"))
    assert len(caplog.records) == 4


def test_reason_in_words_has_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    FailingSteps(logger).note_failure(Event.CLAIM_FAILED, KeyError("a"), "a rule of the table")
    assert caplog.records[0].exc_info is None
    assert fields(caplog) == [{"error": "a rule of the table", "error_type": "KeyError"}]
