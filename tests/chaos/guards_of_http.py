"""The guards of the HTTP side: what one request may cost, what its answer gives away."""

from tests.chaos.guards_trial import Guard

LIMITS = "serve_app/limits.py"
APP = "serve_app/app.py"
POOLS = "serve_app/pools.py"
SEARCH = "serve_app/routes/search.py"
ADMIN = "serve_app/routes/admin.py"
PARTS = "serve_app/parts.py"
ERRORS = "serve_app/error_responses.py"
VALUES = "serve_app/schemas/strict_values.py"
BODIES = "serve_app/json_bodies.py"
DOORS = "serve_app/guards.py"
SUBMISSIONS_FILE = "cluster/store/queue/submissions.py"
ANSWERS = "serve_app/json_answers.py"

_COST = "tests/integration/test_api_limits.py::"
_ADMIN = "tests/integration/test_admin_api.py::"
_REQUEST = "tests/unit/test_request_limits.py::"
_DOORS = "tests/unit/test_route_guards.py::"
_ROUTES = "tests/integration/test_routes_guarded.py::"
_HEADERS = "tests/integration/test_answer_headers.py::"
_PAGE = "tests/integration/test_documentation.py::"
_VALUES = "tests/unit/test_strict_values.py::"
_BODIES = "tests/unit/test_json_bodies.py::"
_ANSWERS = "tests/unit/test_json_answers.py::"
_TURNS = "tests/integration/test_owner_turns.py::"

HTTP = [
    Guard(
        "bodies have a most, as announced",
        LIMITS,
        "if announced.isdigit() and int(announced) > self._limits.max_body_bytes:",
        "if not announced.isascii():",
        (f"{_REQUEST}test_a_body_that_is_announced_too_large_is_refused_unread",),
    ),
    Guard(
        "bodies have a most, as they come",
        LIMITS,
        "if self._bytes > self._max_bytes:",
        "if self._bytes < 0:",
        (f"{_REQUEST}test_a_body_is_counted_while_it_comes_whatever_was_said",),
    ),
    Guard(
        "addresses have an end",
        LIMITS,
        "> MAX_ADDRESS_BYTES:",
        "< 0:",
        (f"{_REQUEST}test_addresses_and_headers_have_an_end",),
    ),
    Guard(
        "headers have an end",
        LIMITS,
        "> MAX_HEADER_BYTES:",
        "< 0:",
        (f"{_REQUEST}test_addresses_and_headers_have_an_end",),
    ),
    Guard(
        "a request has a time limit",
        LIMITS,
        "await asyncio.wait({task}, timeout=self._limits.request_timeout_s)",
        "await asyncio.wait({task})",
        (f"{_REQUEST}test_who_sends_too_slowly_is_answered_in_time_and_hung_up_on",),
    ),
    Guard(
        "who drips a body is hung up on",
        LIMITS,
        "problem(504, sentence, _HANG_UP)",
        "problem(504, sentence)",
        (f"{_REQUEST}test_who_sends_too_slowly_is_answered_in_time_and_hung_up_on",),
    ),
    Guard(
        "what comes too late for an answer is dropped",
        LIMITS,
        "        if not self._replaced:\n            self.begun = True\n            await self._send(message)",
        "        self.begun = True\n        await self._send(message)",
        (f"{_REQUEST}test_what_was_given_up_answers_once",),
    ),
    Guard(
        "a statement runs no longer than its request",
        POOLS,
        ", statement_timeout_s=request_timeout_s)\n    pool.timeout",
        ")\n    pool.timeout",
        (f"{_ROUTES}test_api_session_statement_is_bounded_by_the_request",),
    ),
    Guard(
        "a request waits for a session no longer than it may take",
        POOLS,
        "    pool.timeout = min(DATABASE_WAIT_S, request_timeout_s)\n",
        "",
        (f"{_ROUTES}test_api_session_statement_is_bounded_by_the_request",),
    ),
    Guard(
        "the limits are around every route",
        APP,
        "    api.add_middleware(LimitedRequests, limits=parts.limits)\n",
        "",
        (f"{_COST}test_addresses_and_headers_have_an_end",),
    ),
    Guard(
        "pages have a size",
        PARTS,
        "PageSize = Annotated[int, Query(ge=1, le=100, ",
        "PageSize = Annotated[int, Query(ge=1, ",
        (f"{_ROUTES}test_pages_have_a_size_and_a_last_one",),
    ),
    Guard(
        "pages have a last one",
        PARTS,
        "Page = Annotated[int, Query(ge=1, le=1_000_000, ",
        "Page = Annotated[int, Query(ge=1, ",
        (f"{_ROUTES}test_pages_have_a_size_and_a_last_one",),
    ),
    Guard(
        "a search has an end",
        SEARCH,
        "        max_length=MAX_QUERY,\n",
        "",
        (f"{_ROUTES}test_a_search_has_an_end",),
    ),
    Guard(
        "a search finds so many at most",
        SEARCH,
        'Query(ge=1, le=100, description="Scenes at most.")',
        'Query(ge=1, description="Scenes at most.")',
        (f"{_ROUTES}test_a_search_has_an_end",),
    ),
    Guard(
        "a range has an end",
        ADMIN,
        " or int(text[:-1]) > MAX_DAYS:",
        ":",
        (f"{_ADMIN}test_a_bad_range_is_400_and_says_what_is_allowed",),
    ),
    Guard(
        "only pages of known origins may read",
        APP,
        "allow_origins=parts.cors_origins,",
        'allow_origins=["*"],',
        (f"{_ADMIN}test_cors_is_for_the_configured_origins_only",),
    ),
    Guard(
        "no traceback is answered",
        ERRORS,
        "    api.add_exception_handler(Exception, _unexpected)\n",
        "",
        (f"{_DOORS}test_what_breaks_is_told_in_one_sentence_without_its_inside",),
    ),
    Guard(
        "a database that is away is a 503",
        ERRORS,
        "    api.add_exception_handler(DatabaseUnavailable, _unavailable)\n",
        "",
        (f"{_DOORS}test_api_database_away_is_503_with_retry_after",),
    ),
    Guard(
        "every answer has the headers, a failure too",
        APP,
        "return AnswerHeaders(super().build_middleware_stack())",
        "return super().build_middleware_stack()",
        (f"{_HEADERS}test_every_answer_has_the_headers", f"{_HEADERS}test_failure_has_the_headers"),
    ),
    Guard(
        "a 405 names every method of the path",
        ERRORS,
        '        error.headers = {"Allow": ", ".join(_methods_of(request))}\n',
        "        pass\n",
        (f"{_HEADERS}test_allow_names_every_method_of_a_path",),
    ),
    Guard(
        "the documentation can be turned off",
        APP,
        "    if parts.documented:\n        add_documentation(api)",
        "    add_documentation(api)",
        (f"{_PAGE}test_documentation_is_off_where_it_is_not_wanted",),
    ),
    Guard(
        "no page loads from elsewhere",
        APP,
        "        docs_url=None,  # FastAPI's own pages load from other hosts\n        redoc_url=None,\n",
        "",
        (f"{_PAGE}test_pages_that_load_from_elsewhere_are_gone",),
    ),
    Guard(
        "false is no priority",
        "cluster/contracts/videos.py",
        "if isinstance(value, bool | str | bytes):",
        "if isinstance(value, bytes):",
        ("tests/unit/test_submission_rules.py::test_priority_is_a_number_and_nothing_like_it",),
    ),
    Guard(
        "a number in an address is digits",
        VALUES,
        "if isinstance(text, str) and not _WHOLE_NUMBER.fullmatch(text):",
        "if text is None:",
        (f"{_VALUES}test_number_in_an_address_is_digits_alone",),
    ),
    Guard(
        "an id has one spelling",
        VALUES,
        "(isinstance(text, str) and _ID.fullmatch(text)):",
        "text:",
        (f"{_VALUES}test_id_has_its_hyphens",),
    ),
    Guard(
        "a time has one spelling",
        VALUES,
        "if isinstance(text, str) and not _TIME.fullmatch(text):",
        "if text is None:",
        (f"{_VALUES}test_time_in_another_spelling_is_refused",),
    ),
    Guard(
        "a wrong parameter is named whatever the body is",
        ERRORS,
        "        if not faults:\n            return problem(status.HTTP_415",
        "        if faults is not None:\n            return problem(status.HTTP_415",
        (f"{_COST}test_wrong_parameter_is_named_before_the_body",),
    ),
    Guard(
        "an object has so many keys at most",
        BODIES,
        "            if commas[-1] >= MAX_KEYS:",
        "            if commas[-1] < -2 * MAX_TOKENS:",
        (f"{_BODIES}test_json_body_of_any_kind_makes_few_mistakes[many keys]",),
    ),
    Guard(
        "a body has so many values at most",
        BODIES,
        "        if number == MAX_TOKENS:",
        "        if number < 0:",
        (f"{_BODIES}test_body_at_its_bounds_is_parsed_and_beyond_is_refused",),
    ),
    Guard(
        "JSON is parsed apart from the event loop",
        BODIES,
        "        return await asyncio.get_running_loop().run_in_executor(_threads, parse_body, body)\n",
        "        return parse_body(body)\n",
        (f"{_BODIES}test_json_body_is_parsed_by_a_thread",),
    ),
    Guard(
        "routes parse JSON within bounds",
        DOORS,
        "handle(JsonRequest(request, self.max_body_bytes) if has_json else request)",
        "handle(request)",
        (
            f"{_BODIES}test_json_body_is_parsed_by_a_thread",
            f"{_BODIES}test_json_body_is_small_but_where_many_are_sent",
        ),
    ),
    Guard(
        "mistakes of a list are looked for until there are enough",
        "serve_app/schemas/strict_values.py",
        "                if mistakes > SHOWN_MISTAKES:",
        "                if mistakes < 0:",
        (f"{_BODIES}test_items_after_enough_mistakes_are_not_looked_at",),
    ),
    Guard(
        "mistakes are told in few letters",
        ERRORS,
        "    return text if len(text) <= SHOWN_LETTERS else",
        "    return text if SHOWN_LETTERS else",
        (f"{_BODIES}test_json_body_of_any_kind_makes_few_mistakes[a key as long as the body]",),
    ),
    Guard(
        "answers are written apart from the event loop",
        ANSWERS,
        "        return json_answer(write(returned), status)\n",
        "        return returned\n",
        (f"{_ANSWERS}test_answer_is_written_by_the_thread_that_made_it[False]",),
    ),
    Guard(
        "the work of an owner takes turns",
        APP,
        "answering(function, status, None if work is None else work.of(method))",
        "answering(function, status)",
        (
            f"{_TURNS}test_changes_of_one_owner_hold_one_session",
            f"{_TURNS}test_reads_of_one_owner_leave_the_others_theirs",
        ),
    ),
    Guard(
        "a submission that is sent again waits for no lock",
        SUBMISSIONS_FILE,
        "        if ids is not None and not _count_new(connection, parameters):",
        "        if not ids and not _count_new(connection, parameters):",
        (f"{_TURNS}test_resent_submission_waits_for_and_writes_nothing",),
    ),
]
