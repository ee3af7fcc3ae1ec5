"""The guards of a fetch: how long it may take, how much may come, what is left when it breaks off."""

from tests.chaos.guards_trial import Guard

STORAGE = "cluster/storage.py"
WEB = "cluster/web_source.py"

_LOCAL = "tests/unit/test_storage.py::"
_LIMITS = "tests/unit/test_web_limits.py::"
_TRICKLE = f"{_LIMITS}test_a_trickle_of_anything_meets_the_time_limit"

FETCHES = [
    Guard(
        "a fetch has a time limit",
        WEB,
        "if time.monotonic() >= self._end:",
        "if self._end < 0:",
        ("tests/unit/test_fetch_clock.py::test_a_deadline_that_is_over_is_said",),
    ),
    Guard(
        "copying looks at the time",
        STORAGE,
        "            deadline.check()\n            with _blaming",
        "            with _blaming",
        ("tests/unit/test_fetch_clock.py::test_a_source_of_any_scheme_is_copied_in_time",),
    ),
    Guard(
        "reading an answer looks at the time",
        WEB,
        "    def readinto(self, buffer: Any, /) -> int:\n        self._sock.settimeout(self._deadline.patience_s())\n",
        "    def readinto(self, buffer: Any, /) -> int:\n        self._sock.settimeout(2.0)\n",
        (f"{_TRICKLE}[silence-in-a-body]",),
    ),
    Guard(
        "a handshake has a time limit",
        WEB,
        "    plain.settimeout(deadline.patience_s())  # of the whole handshake\n",
        "    plain.settimeout(5.0)\n",
        (f"{_LIMITS}test_a_handshake_that_is_not_answered_meets_the_time_limit",),
    ),
    Guard(
        "a resolver has a time limit",
        WEB,
        "answers.get(timeout=deadline.patience_s())",
        "answers.get(timeout=5)",
        (f"{_LIMITS}test_a_resolver_that_does_not_answer_meets_the_time_limit",),
    ),
    Guard(
        "a file has a most, as announced",
        STORAGE,
        "                _check_size(stated_size, limits)\n",
        "",
        (f"{_LIMITS}test_a_length_that_lies_is_found_out",),
    ),
    Guard(
        "a file has a most, as it comes",
        STORAGE,
        "            if size > limits.max_bytes:\n                raise",
        "            if size < 0:\n                raise",
        (f"{_LOCAL}test_the_byte_limit_holds_by_header_and_while_copying",),
    ),
    Guard(
        "a file has a most, in place",
        STORAGE,
        '    if size > limits.max_bytes:\n        raise InvalidVideo(f"the file has',
        '    if size < 0:\n        raise InvalidVideo(f"the file has',
        (f"{_LOCAL}test_what_is_no_readable_local_file_is_named",),
    ),
    Guard(
        "a file that broke off is no whole one",
        STORAGE,
        "if stated_size is not None and size < stated_size:",
        "if size < 0:",
        (f"{_LOCAL}test_a_cut_connection_says_how_much_came",),
    ),
    Guard(
        "what could not be fetched leaves nothing behind",
        STORAGE,
        "            target.unlink(missing_ok=True)\n",
        "            pass\n",
        (f"{_LIMITS}test_a_length_that_lies_is_found_out",),
    ),
    Guard(
        "a full disk is no fault of the video",
        STORAGE,
        "if error.errno in {errno.ENOSPC, errno.EDQUOT}:",
        "if error.errno is None:",
        (f"{_LOCAL}test_a_full_disk_is_no_fault_of_the_video",),
    ),
    Guard(
        "what does not fit is not begun",
        STORAGE,
        "if stated_size > shutil.disk_usage(directory).free:",
        "if stated_size < 0:",
        ("tests/unit/test_fetch_clock.py::test_what_does_not_fit_on_the_disk_is_not_begun",),
    ),
    Guard(
        "nothing is decompressed",
        WEB,
        '"Accept": "*/*", "Connection": "close"}',
        '"Accept": "*/*", "Accept-Encoding": "gzip", "Connection": "close"}',
        (f"{_LIMITS}test_nothing_is_decompressed",),
    ),
]
