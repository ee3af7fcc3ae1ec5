"""A secret is hidden in whichever form it is written down, ordinary sentences are not, and neither takes long."""

import logging
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.security.redaction import redacted, without_folders
from cluster.security.visible import VisibleRecord

FORMS = {
    "path-query": "GET /download/o?alt=media&access_token=ya29.SECRET",
    "python": "{'Authorization': 'Bearer eyJ.SECRET', 'X-Amz-Security-Token': 'SECRET'}",
    "bytes": "{b'authorization': b'Bearer SECRET'}",
    "pairs": "[(b'host', b'a'), (b'authorization', b'Bearer SECRET'), ('cookie', 'a=SECRET')]",
    "lists": "{'Set-Cookie': ['a=SECRET', 'b=SECRET'], 'Date': 'x'}",
    "json": '{"refresh_token": "SECRET", "client_secret": "SECRET SECRET", "a": {"sessionToken":"SECRET"}}',
    "json-in-json": r'{"body": "{\"password\": \"SECRET\", \"a\": 1}"}',
    "headers": "Authorization: SharedKey acct:SECRETKEY=\nCookie: a=SECRET; b=SECRET\nX-Api-Key: SECRET",
    "signed-header": "Authorization: AWS4-HMAC-SHA256 Cred=SECRET/s3, SignedHeaders=host, Sig=SECRET",
    "command": "curl -H 'X-Auth-Token: SECRET' -H 'Authorization: Bearer SECRET' https://a.test/b",
    "assignment": 'password = "SECRET" and pwd=SECRET; my_key => SECRET, MyKey=SECRET, secret := SECRET',
    "item": "headers['Cookie'] = 'a=SECRET'",
    "azure": "AccountName=a;AccountKey=SECRET==;SharedAccessSignature=sv=2026&sig=SECRET",
    "sas": "?sv=2026&sas=SECRET&sig=SECRET",
    "xml": "<Error><AWSAccessKeyId>SECRET</AWSAccessKeyId><a:SecretAccessKey x='y'>SECRET</a:SecretAccessKey></Error>",
    "encoded": "url=%2Fa%3FX-Amz-Signature%3DSECRET%26token%253DSECRET",
    "quote-in-url": "https://h/it's?key=SECRET",
    "userinfo": "postgres://u:SECRET@h/db redis://:SECRET@h/0 amqps://SECRET@h/v https://ghp_SECRET@h/a",
    "odd-userinfo": "amqp://u:SEC|SECRET@h/v, postgres://u:it's SECRET's",
    "conninfo": r"host=h user=u password='it\'s SECRET' sslpassword=SECRET",
    "object": "Settings(password=SecretStr('SECRET'), jwt_secret='SECRET')",
    "pem": "key:\n-----BEGIN RSA PRIVATE KEY-----\nSECRET\n-----END RSA PRIVATE KEY-----",
    "half-pem": "-----BEGIN PRIVATE KEY-----\\nSECRET",
    "bare-scheme": "sent Bearer SECRETSECRET1 and Basic SECRETSECRET==",
    "bare-jwt": "refused eyJhbGciOiJIUzI1NiJ9.SECRET.SECRET",
    "bare-ids": "AKIASECRETSECRETSECRET ya29.SECRET ghp_SECRETSECRETSECRETSECRET",
    "unclosed": 'the answer {"token": "SECRET and SECRET',
}
FORMS["odd-userinfo"] = "amqp://u:SEC|SECRET@h/v postgres://u:a<SECRET@h/db"

ORDINARY = [
    "12 thumbnails copied as key frames", "the key of a scene", "token was not valid", "The token has expired.",
    "no such key: films/a.mp4", "NoSuchKey: the specified key does not exist", "unexpected KeyError: 'title'",
    "Send one Authorization header, not several.", "A bearer token is required: send 'Authorization: Bearer <token>'.",
    "HEIMDEX_JWT_SECRET must have at least 32 bytes", "set HEIMDEX_JWT_SECRET or HEIMDEX_JWKS_URL: without a key",
    "the storage refuses HEIMDEX_STORAGE_KEY: https://h/a.mp4 (HTTP 403)", "HEIMDEX_STORAGE_KEY: a.mp4 (HTTP 403)",
    "the tokenizer of vision model pe: cannot be loaded", "others may read the password in x: chmod 600 it",
    "the text model minilm gives 384 numbers on this machine: bring the same files here", "max_tokens=512, tokens: 40",
    "Ray's token: others may read it", "ray 2.49, authentication: token", "signature failure: unknown authority",
    "Key (id)=(7) already exists.", "a URL with user or password is not read: https://a.test/b",
    "at 10:30:05, 95% done",
    "claim failed: database unavailable (scheduler=a1 error=timeout)",
    "another session holds the table videos: try again",
    "WHERE lease_token = %(token)s", "curl -H \"Authorization: Bearer $TOKEN\"", "monkey: 3, keyboard=de, turkey=yes",
    "password=None token='' secret=null", "Basic information about bearer authentication", "is <b>bold</b>: <key>",
    "scene 4 of 12: key frame 00004-key.jpg", "the secret: as set, else the data directory's own",
]  # fmt: skip

PATHS = {
    "file-uri": "cannot open file:///srv/secret/a/video.mp4",
    "short-file-uri": "at file:/srv/secret: gone",
    "after-colon": "cannot open:/srv/secret/x",
    "quoted": "No such file: '/srv/a:b/secret', 2 tries",
    "quoted-spaces": 'no "/srv/a (1): b/secret" here',
    "colon": "cannot read /srv/a:b/secret: denied",
    "parentheses": "wrote (/srv/secret) and /srv/a(1)/secret",
    "assigned": "folder=/srv/secret",
}

HOSTILE = [
    "a", "password", "password='", "'password': '", "key", "key ", "key: ", "key = ", "[", "'", '"', "\\", '\\"', "/",
    "/a", "/a ", "/ ", "a://", "a://b:c@", "://", ":", ".", ")", "s3://a/b?", "s3:?", "Bearer ", "basic aaaaaaaa ",
    "eyJ-", "eyJ.", "AKIA", "-----BEGIN A-----", "-----BEGIN ", "<a", "<token>", "</", "x-amz-", "Authorization: ",
    "cookie:\n", "'key','a", "token => ", "%25", "api_key_", "ghp_", "/a for ", "   ", "file:", "file://", "'/a",
    "key:['", "=a",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_secret_of_any_form_is_hidden(form: str) -> None:
    shown = VisibleRecord("a", logging.INFO, "a.py", 1, "failed: %s", (FORMS[form],), None).getMessage()
    assert "SECRET" not in shown
    assert "SECRET" not in redacted(FORMS[form])
    assert "SECRET" not in without_folders(FORMS[form])
    assert redacted(redacted(FORMS[form])) == redacted(FORMS[form])


@pytest.mark.parametrize("sentence", ORDINARY)
def test_ordinary_sentence_is_unchanged(sentence: str) -> None:
    assert redacted(sentence) == sentence


@pytest.mark.parametrize("form", PATHS)
def test_path_of_this_machine_is_hidden(form: str) -> None:
    shown = without_folders(PATHS[form])
    assert "secret" not in shown
    assert "srv" not in shown


def test_text_around_a_secret_stays() -> None:
    assert redacted("{'a': 1, 'token': 'x y', 'b': 2}") == "{'a': 1, 'token': '...', 'b': 2}"
    assert redacted("AccountKey=x==;Suffix=y") == "AccountKey=...;Suffix=y"
    assert redacted("<Key>a</Key> <Code>b</Code>") == "<Key>...</Key> <Code>b</Code>"
    assert without_folders("no '/srv/a:b/c' -> 2") == "no '...' -> 2"


SECRETS = st.text("abcdefghijkmnopqrstuvwxyzABCDEFGH23456789+/=_~", min_size=12, max_size=40)
NAMES = st.sampled_from(
    [
        *("password", "PGPASSWORD", "pwd", "client_secret", "accessToken", "refresh_token", "AccountKey", "api-key"),
        *("x-api-key", "signature", "X-Amz-Signature", "sig", "credential", "Authorization", "session_id", "jwt"),
        *("Set-Cookie", "aws_secret_access_key", "AWSAccessKeyId", "private_key", "sas"),
    ]
)
WRITTEN = st.sampled_from(
    [
        "{}={}",
        "?a=b&{}={}&c=d",
        "'{}': '{}'",
        '"{}":"{}"',
        "{}: {}",
        "{} => {}",
        "<{0}>{1}</{0}>",
        "%3F{}%3D{}",
        "('{}', b'{}')",
    ]
)


@given(name=NAMES, secret=SECRETS, written=WRITTEN, around=st.text(" abc'\"/:=&{}[](),\n", max_size=8))
@settings(max_examples=300, deadline=None)
def test_named_secret_is_hidden_in_any_surroundings(name: str, secret: str, written: str, around: str) -> None:
    assert secret not in redacted(f"{around} {written.format(name, secret)} {around}")


@given(text=st.text("aA1 =:'\"\\/.,;?&<>()[]{}%-\n@key", max_size=60))
@settings(max_examples=300, deadline=None)
def test_redaction_never_raises(text: str) -> None:
    without_folders(f"token{text}key{text}")


def took_s(text: str) -> float:
    began_s = time.process_time()
    without_folders(text)
    return time.process_time() - began_s


@pytest.fixture(scope="module")
def plain_s() -> float:
    """Seconds that a million ordinary characters take."""
    return max(took_s("the boat is at sea, " * 50_000), 0.05)


@pytest.mark.parametrize("prefix", HOSTILE)
def test_hostile_text_takes_time_in_proportion(prefix: str, plain_s: float) -> None:
    assert took_s((prefix * 1_000_000)[:1_000_000]) < 15 * plain_s
