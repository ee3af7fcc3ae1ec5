"""The guards of decoding and showing what strangers send: its cost, what a decoder and a terminal are kept from."""

from tests.chaos.guards_of_sandbox import SANDBOXES
from tests.chaos.guards_trial import Guard

PICTURES = "cluster/decoders/pictures.py"
READING = "cluster/search/query_picture.py"
PROCESS = "cluster/decoders/process.py"
CHILD = "cluster/decoders/child.py"
SANDBOX = "cluster/decoders/sandbox.py"

_PICTURES = "tests/unit/test_pictures.py::"
_OWNERS = "tests/unit/test_owner_decoders.py::"
_PROCESS = "tests/unit/test_decoder_process.py::"

VISIBLE = "cluster/security/visible.py"
TERMINAL = "cluster/cli/terminal.py"
MEDIA = "actors/workers/media_calls.py"
KINDS = "actors/workers/catalog.py"
ACTOR = "actors/workers/worker.py"
_MEDIA = "tests/unit/test_media_calls.py::"
_ANSWERS = "tests/unit/test_hostile_answers.py::"
_VISIBLE = "tests/unit/test_visible.py::"

DECODERS = [
    *SANDBOXES,
    Guard(
        "a WebP's size is read before it is decoded",
        PICTURES,
        "_check_size(*webp_size(data))",
        "webp_size(data)",
        (f"{_PICTURES}test_webp_of_46_bytes_is_refused_by_its_header",),
    ),
    Guard(
        "a WebP's frames count as its canvas does",
        PICTURES,
        'if name == b"ANMF" and len(body) >= 12:',
        "if len(body) > 16:",
        (f"{_PICTURES}test_webp_size_is_the_largest_that_is_stated",),
    ),
    Guard(
        "pictures are decoded two at a time",
        READING,
        "_turn = threading.BoundedSemaphore(AT_ONCE)",
        "_turn = threading.BoundedSemaphore(9)",
        ("tests/integration/test_api_limits.py::test_six_large_pictures_at_once_are_decoded_two_at_a_time",),
    ),
    Guard(
        "a decoder's memory is free before another one may begin",
        PROCESS,
        "if self._process is not None and not self._has_ended(self._process, END_S):",
        "if self._process is None:",
        (f"{_PROCESS}test_memory_of_a_copy_is_free_when_its_call_ends",),
    ),
    Guard(
        "pictures have a largest size",
        PICTURES,
        "if width * height > MAX_PIXELS:",
        "if width * height < 0:",
        (f"{_PICTURES}test_picture_is_refused_by_the_size_in_its_header",),
    ),
    Guard(
        "pictures are of three formats",
        PICTURES,
        """    raise Unreadable(f"it is none of {', '.join(FORMATS)}" if data else "it is empty")""",
        """    return "GIF" if data else "PNG" """.rstrip(),
        (f"{_PICTURES}test_picture_of_another_format_is_refused",),
    ),
    Guard(
        "what Exif cannot be read says nothing",
        PICTURES,
        "    except Exception:  # every error of a parser means the same: it says nothing\n",
        "    except OSError:\n",
        (f"{_PICTURES}test_picture_with_malformed_exif_is_read",),
    ),
    Guard(
        "whatever a decoder raises, the picture is refused",
        READING,
        "    except UnexpectedError as error:\n",
        "    except DecoderBusy as error:\n",
        (f"{_PICTURES}test_mutated_picture_is_read_or_refused",),
    ),
    Guard(
        "decoders have no secrets",
        PROCESS,
        "**scrubbed(os.environ)",
        "**os.environ",
        (f"{_PROCESS}test_decoder_has_no_secrets",),
    ),
    Guard(
        "decoders gain no privileges",
        SANDBOX,
        "    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))\n",
        "",
        (f"{_PROCESS}test_decoder_gains_no_privileges",),
    ),
    Guard(
        "decoders open no socket",
        "cluster/decoders/system_calls.py",
        "        (_RETURN, 0, 0, _FAIL | errno.EPERM),\n    ]\n    return b",
        "        (_RETURN, 0, 0, _ALLOW),\n    ]\n    return b",
        (f"{_PROCESS}test_decoder_opens_no_socket",),
    ),
    Guard(
        "decoders read no file but their own",
        SANDBOX,
        "        _restrict_files(readable)\n",
        "        pass\n",
        (f"{_PROCESS}test_decoder_reads_its_own_file_alone",),
    ),
    Guard(
        "decoders of an owner's small files read no file of another owner",
        "cluster/decoders/owner_decoders.py",
        "                if kept.owner_id == owner_id:\n",
        "                if kept.owner_id:\n",
        (f"{_OWNERS}test_files_of_two_owners_never_share_a_decoder",),
    ),
    Guard(
        "a decoder that failed is not asked again",
        "cluster/decoders/owner_decoders.py",
        "if kept.copy.is_open and kept.calls",
        "if kept.calls",
        (f"{_OWNERS}test_a_file_that_cannot_be_decoded_ends_its_decoder",),
    ),
    Guard(
        "a decoder that holds much memory is not asked again",
        "cluster/decoders/owner_decoders.py",
        " and kept.copy.memory_bytes <= MAX_KEPT_BYTES:",
        ":",
        (f"{_OWNERS}test_decoder_that_holds_much_memory_is_replaced",),
    ),
    Guard(
        "decoders have bounded memory and time",
        CHILD,
        "        bound(decoders.memory_bytes, decoders.cpu_s)\n",
        "",
        (f"{_PROCESS}test_decoder_gets_no_more_memory_than_its_bound",),
    ),
    Guard(
        "decoders answer in time",
        PROCESS,
        "if not self._poll.poll(left_ms):",
        "if not self._poll.poll(9000):",
        (f"{_PROCESS}test_decoder_that_hangs_is_killed_in_time",),
    ),
    Guard(
        "a decoder's answer calls nothing",
        PROCESS,
        "return unpacked(message, types)",
        "return pickle.loads(message)",
        (f"{_PROCESS}test_decoder_answer_cannot_name_what_is_called",),
    ),
    Guard(
        "a decoder's answer has a largest size",
        PROCESS,
        "if size > (self._answers.max_bytes if kind == PART else LARGEST_END_BYTES):",
        "if size < 0:",
        (f"{_PROCESS}test_decoder_answer_has_a_largest_size",),
    ),
    Guard(
        "decoders end with what they are asked",
        PROCESS,
        "            if not is_at_end:\n",
        "            if is_at_end is None:\n",
        (f"{_OWNERS}test_parts_that_are_not_taken_end_the_decoder",),
    ),
    Guard(
        "controls and marks of direction are shown",
        VISIBLE,
        '_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}',
        '_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}',
        (f"{_VISIBLE}test_visible_order_is_shown_and_its_letters_stay",),
    ),
    Guard(
        "tables give no orders",
        TERMINAL,
        "segment._replace(text=lines(segment.text))",
        "segment",
        (f"{_VISIBLE}test_console_gives_no_orders_but_its_own",),
    ),
    Guard(
        "what another system wrote is no markup",
        "cluster/cli/queue_commands.py",
        'in_markup(video.stage or "")',
        'video.stage or ""',
        ("tests/unit/test_foreign_rows_in_tables.py::test_quarantine_shows_a_foreign_row_as_it_is",),
    ),
    Guard(
        "log lines give no orders",
        VISIBLE,
        "        return visible(redacted(super().getMessage()))",
        "        return super().getMessage()",
        (f"{_VISIBLE}test_log_record_is_one_line_that_gives_no_orders",),
    ),
    Guard(
        "tracebacks give no orders",
        VISIBLE,
        "self.exc_text = lines(",
        "self.exc_text = str(",
        (f"{_VISIBLE}test_log_traceback_gives_no_orders",),
    ),
    Guard(
        "messages on arguments give no orders",
        TERMINAL,
        'say(f"error: {error.format_message()}")',
        'print(f"error: {error.format_message()}", file=sys.stderr)',
        (f"{_VISIBLE}test_wrong_argument_is_shown_and_not_obeyed",),
    ),
    Guard(
        "lines on standard output give no orders",
        TERMINAL,
        "    print(visible(text), flush=True)",
        "    print(text, flush=True)",
        ("tests/integration/test_terminal_escapes.py::test_no_command_passes_an_order_to_the_terminal",),
    ),
    Guard(
        "transcripts give a terminal no orders",
        TERMINAL,
        "    if sys.stdout.isatty():\n        print(lines",
        "    if not sys.stdout:\n        print(lines",
        ("tests/integration/test_terminal_escapes.py::test_transcript_is_exact_but_on_a_terminal",),
    ),
    Guard(
        "media workers decode in a process of its own",
        KINDS,
        "        if not self.confine:\n",
        "        if self.confine:\n",
        (f"{_MEDIA}test_media_worker_decodes_in_a_process_of_its_own",),
    ),
    Guard(
        "windows of a decoder are what they should be",
        MEDIA,
        "_is_array(window.samples, np.int16, 1)",
        "window",
        (f"{_MEDIA}test_media_worker_answers_only_what_is_promised[media]",),
    ),
    Guard(
        "media workers forget their environment",
        ACTOR,
        "            if self._loaded.forgets:\n",
        "            if not self._loaded:\n",
        ("tests/cluster/test_worker_environment.py::test_media_worker_and_its_decoder_hold_no_secret",),
    ),
    Guard(
        "no time of a decoder's answer is beyond every file",
        MEDIA,
        "abs(time_s) <= 2 * limits.max_duration_s",
        "time_s",
        (f"{_MEDIA}test_media_worker_answers_only_what_is_promised[endless_media]",),
    ),
    Guard(
        "fields of a decoder's answer are of their types",
        "cluster/decoders/answer_format.py",
        "        if wrong is not None:\n",
        "        if wrong == kind:\n",
        (f"{_ANSWERS}test_hostile_answer_is_refused_and_takes_no_memory[object of other fields]",),
    ),
    Guard(
        "numbers of a decoder's answer are finite",
        "cluster/decoders/answer_format.py",
        " and math.isfinite(value)",
        "",
        (f"{_ANSWERS}test_hostile_answer_is_refused_and_takes_no_memory[object of no number]",),
    ),
]
