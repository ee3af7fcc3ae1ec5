"""A video's transcript over HTTP: in each format as a file, the owner's only, and not before there is one."""

from typing import Any
from uuid import UUID, uuid4

import jsonschema
import pytest
from psycopg.types.json import Jsonb
from starlette.testclient import TestClient

from cluster.contracts.videos import Submission
from cluster.store.postgres.connections import Pool
from cluster.store.queue.submissions import submit
from tests.support.api_client import ADMIN, ALICE, BOB, ApiMaker, headers

SEGMENTS = [
    {
        "start_s": 0.5,
        "end_s": 2,
        "text": "Fish & chips.",
        "words": [
            {"start_s": 0.5, "end_s": 1, "text": " Fish", "probability": 0.9},
            {"start_s": 1, "end_s": 1.25, "text": " &", "probability": 0.5},
            {"start_s": 1.25, "end_s": 2, "text": " chips.", "probability": 1},
        ],
    },
    {
        "start_s": 3599.9996,
        "end_s": 3601.5,
        "text": "Über!",
        "words": [{"start_s": 3599.9996, "end_s": 3601.5, "text": " Über!", "probability": 0.25}],
    },
]


def transcribed(pool: Pool, uri: str = "https://example.org/talk.mp4", *, segments: Any = SEGMENTS) -> UUID:
    """A READY video of Alice's in which this was said."""
    (video_id,) = submit(pool, ALICE, [Submission(uri=uri)])
    with pool.connection() as connection:
        connection.execute("UPDATE videos SET status = 'READY', duration_s = 3700 WHERE id = %s", (video_id,))
        connection.execute(
            "INSERT INTO video_transcripts (video_id, language, model, word_count, segments) "
            "VALUES (%s, 'en', 'tiny.en@1', 4, %s)",
            (video_id, Jsonb(segments)),
        )
    return video_id


def ask(api: TestClient, video_id: UUID, user_id: UUID = ALICE, **parameters: str) -> Any:
    return api.get(f"/v1/videos/{video_id}/transcript", params=parameters, headers=headers(user_id))


@pytest.mark.parametrize(
    ("wanted", "content_type", "body"),
    [
        (
            "vtt",
            "text/vtt; charset=utf-8",
            "WEBVTT\n\n00:00:00.500 --> 00:00:02.000\nFish &amp; chips.\n\n01:00:00.000 --> 01:00:01.500\nÜber!\n",
        ),
        (
            "srt",
            "application/x-subrip; charset=utf-8",
            "1\n00:00:00,500 --> 00:00:02,000\nFish & chips.\n\n2\n01:00:00,000 --> 01:00:01,500\nÜber!\n",
        ),
        ("txt", "text/plain; charset=utf-8", "Fish & chips.\n\nÜber!\n"),
    ],
)
def test_a_transcript_is_a_file_of_its_format(
    api: TestClient, pool: Pool, wanted: str, content_type: str, body: str
) -> None:
    answer = ask(api, transcribed(pool), format=wanted)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, content_type)
    assert answer.content.decode("utf-8") == body
    assert answer.headers["Content-Disposition"] == (
        f"attachment; filename=\"talk.{wanted}\"; filename*=UTF-8''talk.{wanted}"
    )


def test_by_default_it_is_json_with_every_word(api: TestClient, pool: Pool) -> None:
    video_id = transcribed(pool)
    answer = ask(api, video_id)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json() == {
        "language": "en",
        "model": "tiny.en@1",
        "source": "heimdex-cluster",
        "times": "measured",
        "duration_s": 3700.0,
        "segments": SEGMENTS,
    }
    assert ask(api, video_id, format="json").content == answer.content


def test_the_json_and_the_other_formats_are_described(api: TestClient, pool: Pool) -> None:
    document = api.get("/openapi.json").json()
    described = document["paths"]["/v1/videos/{video_id}/transcript"]["get"]
    content = described["responses"]["200"]["content"]
    assert set(content) == {"application/json", "text/vtt", "application/x-subrip", "text/plain"}
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/VideoTranscript"}
    (asked,) = [parameter for parameter in described["parameters"] if parameter["name"] == "format"]
    assert (asked["required"], asked["schema"]["default"]) == (False, "json")
    schema = {**document["components"]["schemas"]["VideoTranscript"], "components": document["components"]}
    jsonschema.validate(ask(api, transcribed(pool)).json(), schema)


def test_a_video_in_which_nothing_was_said_has_a_transcript(api: TestClient, pool: Pool) -> None:
    video_id = transcribed(pool, segments=[])
    answers = {wanted: ask(api, video_id, format=wanted) for wanted in ("vtt", "srt", "txt", "json")}
    assert {answer.status_code for answer in answers.values()} == {200}
    assert [answers[wanted].text for wanted in ("vtt", "srt", "txt")] == ["WEBVTT\n", "", ""]
    assert answers["json"].json()["segments"] == []


def test_transcript_before_its_time_is_404_with_the_state(api: TestClient, pool: Pool) -> None:
    (video_id,) = submit(pool, ALICE, [Submission(uri="https://example.org/talk.mp4")])
    answer = ask(api, video_id, format="vtt")
    assert (answer.status_code, answer.json()) == (404, {"detail": "The video is PENDING: it has no transcript yet."})


def test_another_users_transcript_is_as_if_it_did_not_exist(api: TestClient, pool: Pool) -> None:
    video_id = transcribed(pool)
    for asked, user_id in ((video_id, BOB), (video_id, ADMIN), (uuid4(), ALICE)):
        answer = ask(api, asked, user_id, format="txt")
        assert (answer.status_code, answer.json()) == (404, {"detail": "There is no such video."})
    assert api.get(f"/v1/videos/{video_id}/transcript").status_code == 401


def test_an_unknown_format_is_400_and_the_known_ones_are_named(api: TestClient, pool: Pool) -> None:
    video_id = transcribed(pool)
    for unknown in ("ass", "", "VTT"):
        answer = ask(api, video_id, format=unknown)
        assert (answer.status_code, list(answer.json())) == (400, ["detail"])
        assert answer.json()["detail"] == "format: Input should be 'json', 'vtt', 'srt' or 'txt'"
    assert api.get("/v1/videos/7/transcript", headers=headers(ALICE)).status_code == 400


@pytest.mark.parametrize(
    ("uri", "plain", "encoded"),
    [
        ("https://example.org/a%20talk.2.mp4", "a talk.2", "a%20talk.2"),
        ("https://example.org/Br%C3%BCcke%20%E6%BD%AE.mp4", "Br_cke _", "Br%C3%BCcke%20%E6%BD%AE"),
        ("https://example.org/a%22;%20b=%22c%0d%0aX:%20y.mp4", "a__ b__c_x0d_x0aX_ y", "a_%3B%20b%3D_c_x0d_x0aX_%20y"),
        ("https://example.org/..%2f..%2fetc%5cpasswd", "etc_passwd", "etc_passwd"),
        ("https://example.org/talk%E2%80%AE4pm.mp4", "talk_4pm", "talk_4pm"),
        ("https://example.org/.mp4", "mp4", "mp4"),
        ("https://example.org/...", "transcript", "transcript"),
        ("s3://clips/" + "潮" * 300 + ".mp4", "_" * 66, "%E6%BD%AE" * 66),
    ],
)
def test_the_files_name_is_safe(api: TestClient, pool: Pool, uri: str, plain: str, encoded: str) -> None:
    answer = ask(api, transcribed(pool, uri), format="vtt")
    assert answer.headers["Content-Disposition"] == (
        f"attachment; filename=\"{plain}.vtt\"; filename*=UTF-8''{encoded}.vtt"
    )


def test_a_page_of_an_allowed_origin_may_read_the_files_name(make_api: ApiMaker, pool: Pool) -> None:
    api = make_api(cors_origins=("https://app.example.org",))
    sent = {**headers(ALICE), "Origin": "https://app.example.org"}
    answer = api.get(f"/v1/videos/{transcribed(pool)}/transcript", headers=sent)
    assert "Content-Disposition" in answer.headers["Access-Control-Expose-Headers"]
