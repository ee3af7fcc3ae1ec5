"""The guards of secrets in texts: which forms of them are hidden, in bounded time."""

from tests.chaos.guards_trial import Guard

REDACTION = "cluster/security/redaction.py"
NAMED = "cluster/security/named_secrets.py"

_FORMS = "tests/unit/test_named_secrets.py::"

SECRETS = [
    Guard(
        "secrets in quotes",
        NAMED,
        'value = found["quoted"] if found["quoted"] is not None else found["plain"]',
        'value = found["plain"] or ""',
        (f"{_FORMS}test_secret_of_any_form_is_hidden[python]",),
    ),
    Guard(
        "secrets in XML",
        NAMED,
        "    text = _ELEMENT.sub(_hidden_element, text)\n",
        "",
        (f"{_FORMS}test_secret_of_any_form_is_hidden[xml]",),
    ),
    Guard(
        "schemes of Authorization",
        NAMED,
        "    text = _HEADER.sub(_hidden_header, text)\n",
        "",
        (f"{_FORMS}test_secret_of_any_form_is_hidden[signed-header]",),
    ),
    Guard(
        "passwords of URLs with quotes",
        REDACTION,
        '_PASSWORD.sub("", text)',
        "text",
        (f"{_FORMS}test_secret_of_any_form_is_hidden[odd-userinfo]",),
    ),
    Guard(
        "tokens without a name",
        NAMED,
        "return _BARE.sub(HIDDEN, text)",
        "return text",
        (f"{_FORMS}test_secret_of_any_form_is_hidden[bare-jwt]",),
    ),
    Guard(
        "sentences stay readable",
        NAMED,
        "and _is_sentence(found, value):",
        "and not value:",
        (f"{_FORMS}test_ordinary_sentence_is_unchanged[no such key: films/a.mp4]",),
    ),
    Guard(
        "redaction in time",
        REDACTION,
        "(?<![A-Za-z0-9+.-])[A-Za-z0-9+.-]++://",
        "[A-Za-z0-9+.-]+://",
        (f"{_FORMS}test_hostile_text_takes_time_in_proportion[a]",),
    ),
    Guard(
        "paths in quotes",
        REDACTION,
        "(?P<quote>[\\\"'`])(?i:file:",
        "(?P<quote>[\\\"'`]{9})(?i:file:",
        (f"{_FORMS}test_path_of_this_machine_is_hidden[quoted-spaces]",),
    ),
]
