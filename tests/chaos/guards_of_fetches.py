"""The guards of a fetch: how long it may take, how much may come, of which version, what is left when it breaks off."""

from tests.chaos.guards_trial import Guard

STORAGE = "cluster/files/storage.py"
COPY = "cluster/files/copied_file.py"
DEADLINE = "cluster/files/deadline.py"
WEB = "cluster/files/web_source.py"
ANSWER = "cluster/files/web_answer.py"
BODY = "cluster/files/web_body.py"
TRANSFER = "cluster/files/web_transfer.py"
ATTEMPT = "actors/attempt/attempt.py"
QUEUE = "cluster/store/queue/video_queue.py"
GROWING = "actors/stages/growing_file.py"

_LOCAL = "tests/unit/test_storage.py::"
_LIMITS = "tests/unit/test_web_limits.py::"
_ANSWERS = "tests/unit/test_web_answers.py::"
_GOING_ON = "tests/unit/test_web_transfer.py::"
_GROWTH = "tests/unit/test_growing_files.py::"
_WAITING = "tests/integration/test_postponement.py::"
_VERSIONS = f"{_GOING_ON}test_bytes_of_two_versions_are_never_put_together"
_TRICKLE = f"{_LIMITS}test_a_trickle_of_anything_meets_the_time_limit"

FETCHES = [
    Guard(
        "a fetch has a time limit",
        DEADLINE,
        "if now_s >= self._end_s:",
        "if self._end_s < 0:",
        ("tests/unit/test_fetch_clock.py::test_a_deadline_that_is_over_is_said",),
    ),
    Guard(
        "copying looks at the time",
        COPY,
        "        self._deadline.check()\n",
        "",
        ("tests/unit/test_fetch_clock.py::test_a_copy_that_is_stopped_takes_no_more",),
    ),
    Guard(
        "reading an answer looks at the time",
        WEB,
        "return self._deadline.wait_for(partial(self._received, buffer))",
        "return self._received(buffer, 2.0)",
        (f"{_TRICKLE}[silence-in-a-body]",),
    ),
    Guard(
        "no bytes of a transfer encoding are kept as the file",
        ANSWER,
        """if not response.chunked and coding.strip().lower() not in {"", "identity"}:""",
        "if coding is None:",
        ("tests/unit/test_web_answers.py::test_unread_transfer_encoding_is_refused",),
    ),
    Guard(
        "a handshake has a time limit",
        WEB,
        "    plain.settimeout(deadline.patience_s(_CONNECT_S))  # of the whole handshake\n",
        "    plain.settimeout(5.0)\n",
        (f"{_LIMITS}test_a_handshake_that_is_not_answered_meets_the_time_limit",),
    ),
    Guard(
        "a resolver has a time limit",
        WEB,
        "deadline.wait_for(partial(_next_answer, answers))",
        "_next_answer(answers, 5)",
        (f"{_LIMITS}test_a_resolver_that_does_not_answer_meets_the_time_limit",),
    ),
    Guard(
        "a file has a most, as announced",
        COPY,
        "        check_size(total, self._max_bytes)\n",
        "",
        (f"{_LIMITS}test_a_length_that_lies_is_found_out",),
    ),
    Guard(
        "a file has a most, as it comes",
        COPY,
        "        if self.size + len(chunk) > self._max_bytes:\n",
        "        if self.size < 0:\n",
        (f"{_LOCAL}test_the_byte_limit_holds_by_header_and_while_copying",),
    ),
    Guard(
        "a file has a most, in place",
        COPY,
        '    if size > max_bytes:\n        raise InvalidVideo(f"the file has',
        '    if size < 0:\n        raise InvalidVideo(f"the file has',
        (f"{_LOCAL}test_what_is_no_readable_local_file_is_named",),
    ),
    Guard(
        "a file that broke off is no whole one",
        TRANSFER,
        "return total is None or self._sink.size == total",
        "return True",
        (f"{_GOING_ON}test_a_server_may_give_smaller_parts_than_asked_for",),
    ),
    Guard(
        "a part that is sent as 200 is no whole file",
        TRANSFER,
        "self._understood(part_of(response), first)",
        "part_of(response)",
        (f"{_GOING_ON}test_a_part_that_does_not_say_which_is_proven_by_its_bytes[200 OK-none]",),
    ),
    Guard(
        "an encoded file that broke off is no whole one",
        BODY,
        "    if member is not None or (rest and not ended):\n        raise",
        "    if rest and not ended:\n        raise",
        (f"{_ANSWERS}test_an_encoded_file_that_breaks_off_begins_again[True--1]",),
    ),
    Guard(
        "what could not be fetched leaves nothing behind",
        STORAGE,
        "            path.unlink(missing_ok=True)\n",
        "            pass\n",
        (f"{_LIMITS}test_a_length_that_lies_is_found_out",),
    ),
    Guard(
        "a full disk is an infrastructure failure",
        COPY,
        "if error.errno in {errno.ENOSPC, errno.EDQUOT}:",
        "if error.errno is None:",
        (f"{_LOCAL}test_a_full_disk_is_no_fault_of_the_video",),
    ),
    Guard(
        "what does not fit is not begun",
        COPY,
        "        self._space.extend(self._reservation, total)\n",
        "",
        ("tests/unit/test_fetch_clock.py::test_what_does_not_fit_on_the_disk_is_not_begun",),
    ),
    Guard(
        "files are asked for as they are",
        WEB,
        '"Accept": "*/*", "Connection": "close"}',
        '"Accept": "*/*", "Accept-Encoding": "gzip", "Connection": "close"}',
        (f"{_ANSWERS}test_an_encoding_that_was_not_asked_for_is_undone[7-gzip]",),
    ),
    Guard(
        "what is decompressed comes in steps",
        BODY,
        "made = member.decompress(rest, CHUNK_BYTES)",
        "made = member.decompress(rest)",
        (f"{_ANSWERS}test_a_bomb_is_undone_in_steps",),
    ),
    Guard(
        "one encoding is undone and no more",
        BODY,
        'if encoding not in {"gzip", "x-gzip", "deflate"}:',
        'if encoding == "":',
        (f"{_ANSWERS}test_an_encoding_that_is_not_read_is_named[twice]",),
    ),
    Guard(
        "a page is no film",
        BODY,
        "if _PAGE.match(_as_text(begin)):",
        "if begin == b'page':",
        (f"{_ANSWERS}test_a_page_is_refused_whatever_it_is_called[0-film]",),
    ),
    Guard(
        "a text is no film",
        BODY,
        "elif _TEXT_TYPE.match(content_type) and begin and not _BINARY.search(begin):",
        "elif content_type is None:",
        (f"{_ANSWERS}test_a_text_is_refused_by_its_type",),
    ),
]

POSTPONEMENTS = [
    Guard(
        "a source is waited for as long as it says",
        ATTEMPT,
        "    if failure.blame is Blame.POSTPONEMENT:\n        return rule.postponement_s",
        "    if failure.blame is Blame.VIDEO:\n        return rule.postponement_s",
        (f"{_WAITING}test_a_busy_source_costs_its_video_no_attempt",),
    ),
    Guard(
        "waiting for a source comes to an end",
        QUEUE,
        '"postponed_s": delay_s if failure.blame is Blame.POSTPONEMENT else 0.0,',
        '"postponed_s": 0.0,',
        (f"{_WAITING}test_a_busy_source_costs_its_video_no_attempt",),
    ),
    Guard(
        "nothing is kept of a file that became another one",
        QUEUE,
        '"changing": failure.error_type == SourceChanging.__name__,',
        '"changing": failure.error_type == "",',
        (f"{_WAITING}test_what_was_made_of_another_file_is_dropped[failure1-0]",),
    ),
]

VERSIONS = [
    Guard(
        "a part has the place that was asked for",
        TRANSFER,
        "placed = part.first == first or (",
        "placed = part.first is not None or (",
        (f"{_GOING_ON}test_a_part_of_another_place_is_not_used",),
    ),
    Guard(
        "a part is of the same version",
        TRANSFER,
        " or part.encoding is not None or not version.may_be(part.version):",
        " or part.encoding is not None:",
        (f"{_VERSIONS}[another-False-by_content]",),
    ),
    Guard(
        "what is repeated is compared",
        TRANSFER,
        "if begin[:repeated] != self._sink.read_at(first, repeated):",
        "if len(begin) < repeated:",
        (f"{_VERSIONS}[another-True-none]", f"{_GOING_ON}test_a_version_of_equal_length_and_date_is_another_one"),
    ),
    Guard(
        "a weak tag proves nothing",
        ANSWER,
        "return self.tag is not None and _STRONG_TAG.fullmatch(self.tag) is not None",
        "return self.tag is not None",
        (f"{_GOING_ON}test_a_transfer_without_strong_tag_repeats_some_bytes[weak-long_ago]",),
    ),
    Guard(
        "an encoded file is not gone on with",
        TRANSFER,
        "if self._encoded and self._sink.size:",
        "if self._encoded and not self._sink.size:",
        (f"{_ANSWERS}test_an_encoded_file_that_breaks_off_begins_again[True--1]",),
    ),
    Guard(
        "a transfer without progress comes to an end",
        TRANSFER,
        "if fruitless == len(PAUSES_S):",
        "if fruitless == 50:",
        (f"{_GOING_ON}test_a_transfer_without_progress_is_given_up",),
    ),
    Guard(
        "a file begins again so often and no more",
        TRANSFER,
        "if self._restarts > MAX_RESTARTS:",
        "if self._restarts > 100:",
        (f"{_GOING_ON}test_a_file_that_keeps_changing_is_given_up",),
    ),
    Guard(
        "a server that is busy says when to come back",
        ANSWER,
        "    if wait_s is not None:\n",
        "    if wait_s == -1:\n",
        (f"{_GOING_ON}test_a_busy_server_says_when_to_come_back",),
    ),
    Guard(
        "a file that grows on its server is not taken",
        TRANSFER,
        "        self._check_settled()\n",
        "",
        (f"{_GROWTH}test_a_file_that_grows_on_its_server_has_to_wait",),
    ),
    Guard(
        "a file that grew while it was copied is not taken",
        STORAGE,
        "if _stamp(filesystem.info(path)) != _stamp(info):",
        "if not info:",
        (f"{_GROWTH}test_a_file_that_grows_in_its_store_has_to_wait",),
    ),
    Guard(
        "a file that grew while it was read is not taken",
        GROWING,
        "    if _has_changed(video):\n        raise",
        "    if video is None:\n        raise",
        (f"{_GROWTH}test_a_file_that_grew_while_it_was_read_has_to_wait",),
    ),
    Guard(
        "a file that is still written is no damaged one",
        GROWING,
        "if _has_changed(video) or (video.modified_ns is not None and _is_fresh(video.path)):",
        "if video is None:",
        (f"{_GROWTH}test_a_file_that_cannot_be_read_yet_has_to_wait",),
    ),
    Guard(
        "a file that is about to be written is no empty one",
        GROWING,
        "if path is not None and _is_empty_file(path) and _is_fresh(path):",
        "if path is None:",
        (f"{_GROWTH}test_a_file_without_a_byte_yet_has_to_wait",),
    ),
]
