"""The guards of decoding what strangers send: what it may cost, and what a decoder cannot reach."""

from tests.chaos.guards_trial import Guard

PICTURES = "cluster/picture_decoder.py"
READING = "cluster/query_picture.py"
PROCESS = "cluster/decoder_process.py"
CHILD = "cluster/decoder_child.py"
SANDBOX = "cluster/sandbox.py"

_PICTURES = "tests/unit/test_pictures.py::"
_PROCESS = "tests/unit/test_decoder_process.py::"

DECODERS = [
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
        "    except DecoderTimeout as error:\n",
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
        CHILD,
        "confine(files=False)",
        "confine(files=False, sockets=False)",
        (
            f"{_PROCESS}test_decoder_opens_no_socket",
            f"{_PROCESS}test_decoder_runs_no_program_and_kills_nothing",
        ),
    ),
    Guard(
        "decoders read no file but their own",
        CHILD,
        "readable(*arguments), sockets=False)",
        "readable(*arguments), sockets=False, files=False)",
        (f"{_PROCESS}test_decoder_reads_its_own_file_alone",),
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
        "if not self._poll.poll(3000):",
        (f"{_PROCESS}test_decoder_that_hangs_is_killed_in_time",),
    ),
    Guard(
        "a decoder's answer calls nothing",
        PROCESS,
        "if (module, name) not in self._allowed:",
        "if not name:",
        (f"{_PROCESS}test_decoder_answer_cannot_name_what_is_called",),
    ),
    Guard(
        "a decoder's answer has a largest size",
        PROCESS,
        "if size > self._answers.max_bytes:",
        "if size < 0:",
        (f"{_PROCESS}test_decoder_answer_has_a_largest_size",),
    ),
    Guard(
        "decoders end with what they are asked",
        PROCESS,
        "if not end.is_reached:",
        "if end.is_reached:",
        (f"{_PROCESS}test_decoder_parts_not_taken_end_their_process",),
    ),
]
