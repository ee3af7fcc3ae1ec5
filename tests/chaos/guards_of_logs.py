"""The guards of what is logged: no secret, nothing that moves a terminal, nothing that a decoder makes up."""

from tests.chaos.guards_trial import Guard

EVENTS = "cluster/security/event_log.py"
OUTPUT = "cluster/security/log_output.py"
RELAY = "cluster/decoders/log_relay.py"

_EVENTS = "tests/unit/test_event_log.py::"
_LINES = "tests/unit/test_log_output.py::"
_RELAYED = "tests/unit/test_log_relay.py::"

LOGS = [
    Guard(
        "fields of events have no secret",
        EVENTS,
        'visible(redacted(f"{name}={said}"))',
        'visible(f"{name}={said}")',
        (f"{_EVENTS}test_event_holds_no_secret[password-hidden-7]",),
    ),
    Guard(
        "fields of events move no terminal",
        EVENTS,
        'visible(redacted(f"{name}={said}"))',
        'redacted(f"{name}={said}")',
        (f"{_EVENTS}test_text_of_others_moves_no_terminal",),
    ),
    Guard(
        "errors of databases are logged without the values of a row",
        EVENTS,
        "said.splitlines()[0] if said",
        "said if said",
        (f"{_EVENTS}test_error_is_its_first_line_and_its_type",),
    ),
    Guard(
        "tracebacks of events have no secret",
        OUTPUT,
        'line["traceback"] = lines(redacted(trace))',
        'line["traceback"] = lines(trace)',
        (f"{_LINES}test_console_line_is_text_with_its_traceback",),
    ),
    Guard(
        "the log's folder is closed to other accounts",
        OUTPUT,
        'make_private_folder(config.folder, "HEIMDEX_DATA_DIR")',
        "config.folder.mkdir(parents=True, exist_ok=True)",
        (f"{_LINES}test_unsafe_folder_leaves_standard_error",),
    ),
    Guard(
        "a decoder logs known events alone",
        RELAY,
        'isinstance(found, dict) and found.get("event") in _EVENTS',
        "isinstance(found, dict)",
        (f"{_RELAYED}test_decoder_line_that_is_no_event_is_a_message",),
    ),
    Guard(
        "a decoder does not flood the log",
        RELAY,
        "if count <= MOST_LINES and not",
        "if not",
        (f"{_RELAYED}test_decoder_that_floods_is_cut_off",),
    ),
]
