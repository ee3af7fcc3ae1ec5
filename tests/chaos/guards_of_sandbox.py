"""The guards of what a decoder that was taken over may do: its system calls, its capabilities, its answers."""

from tests.chaos.guards_trial import Guard

PROCESS = "cluster/decoders/process.py"
SANDBOX = "cluster/decoders/sandbox.py"
CALLS = "cluster/decoders/system_calls.py"
FORMAT = "cluster/decoders/answer_format.py"

_CALLS = "tests/unit/test_forbidden_calls.py::"
_ANSWERS = "tests/unit/test_hostile_answers.py::"
_HOSTILE = f"{_ANSWERS}test_hostile_answer_is_refused_and_takes_no_memory"

SANDBOXES = [
    Guard(
        "decoders are filtered before they are copied",
        SANDBOX,
        "        _install(system_calls.filter_of_process())\n",
        "        pass\n",
        (f"{_CALLS}test_decoder_is_filtered_before_it_is_copied",),
    ),
    Guard(
        "a decoder's copy starts no process",
        SANDBOX,
        "        _install(system_calls.filter_of_copy())\n",
        "        pass\n",
        (f"{_CALLS}test_decoder_starts_no_process",),
    ),
    Guard(
        "decoders have no capability",
        SANDBOX,
        "    _drop_capabilities()\n",
        "",
        (f"{_CALLS}test_decoder_has_no_capability_but_to_read_its_own_files",),
    ),
    Guard(
        "decoders open no file for writing",
        CALLS,
        '"openat": _without_bits(2, _WRITING, errno.EACCES)',
        '"openat": _without_bits(2, 0, errno.EACCES)',
        (f"{_CALLS}test_decoder_opens_no_file_for_writing",),
    ),
    Guard(
        "decoders signal themselves alone",
        CALLS,
        '"tgkill": _one_of(0, os.getpid())',
        '"tgkill": _without_bits(0, 0, errno.EPERM)',
        (f"{_CALLS}test_decoder_limits_and_signals_no_process",),
    ),
    Guard(
        "decoders limit themselves alone",
        CALLS,
        '"prlimit64": _one_of(0, 0)',
        '"prlimit64": _without_bits(0, 0, errno.EPERM)',
        (f"{_CALLS}test_decoder_limits_and_signals_no_process",),
    ),
    Guard(
        "decoders have no signals sent for their descriptors",
        CALLS,
        "_one_of(1, _F_GETFD, _F_SETFD, _F_GETFL, _F_DUPFD_CLOEXEC)",
        "[(_RETURN, 0, 0, _ALLOW)]",
        (f"{_CALLS}test_decoder_limits_and_signals_no_process",),
    ),
    Guard(
        "an answer's bytes come before memory is taken for them",
        FORMAT,
        "if size > self.left:",
        "if size < 0:",
        (f"{_HOSTILE}[picture larger than all]",),
    ),
    Guard(
        "an answer has few levels",
        FORMAT,
        "if depth == 0 or self._values_left < 0:",
        "if self._values_left < 0:",
        (f"{_HOSTILE}[deep]",),
    ),
    Guard(
        "an answer has a largest number of values",
        FORMAT,
        "if depth == 0 or self._values_left < 0:",
        "if depth == 0:",
        (f"{_HOSTILE}[more values than are allowed]",),
    ),
    Guard(
        "an answer has little text",
        FORMAT,
        "if self._text_left < 0:",
        "if size < 0:",
        (f"{_HOSTILE}[much text]",),
    ),
    Guard(
        "an answer of one value is refused at the second",
        PROCESS,
        '                raise MalformedResult("the decoder answered more than one value")\n',
        "                pass\n",
        (f"{_ANSWERS}test_answer_of_many_values_is_refused_at_the_second",),
    ),
    Guard(
        "the end of an answer has a largest size",
        PROCESS,
        " if kind == PART else LARGEST_END_BYTES",
        "",
        (f"{_ANSWERS}test_end_of_an_answer_has_a_largest_size",),
    ),
]
