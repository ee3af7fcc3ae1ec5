"""The guards of what one caller may ask for: searches, requests and connections."""

from tests.chaos.guards_trial import Guard

APP = "serve_app/app.py"
ALLOWANCES = "serve_app/allowances.py"
CALLERS = "serve_app/callers.py"
CONNECTIONS = "serve_app/client_connections.py"
HEALTH = "serve_app/routes/health.py"
POOLS = "serve_app/pools.py"
WORDS = "cluster/contracts/search.py"
SEARCH = "cluster/search/service.py"
VOCABULARY = "cluster/store/index/vocabulary.py"

_READ = "tests/unit/test_words_query.py::"
_COUNTED = "tests/unit/test_allowances.py::"
_CALLED = "tests/integration/test_caller_limits.py::"
_CONNECTED = "tests/unit/test_client_connections.py::"

CALLS = [
    Guard(
        "a query has so many terms at most",
        WORDS,
        "    if terms > MAX_TERMS:",
        "    if terms < 0:",
        (f"{_READ}test_words_query_of_too_many_terms_is_refused",),
    ),
    Guard(
        "terms are counted within words that are joined",
        WORDS,
        '_RUN = re.compile(r"[^\\W_]+")',
        '_RUN = re.compile(r"\\S+")',
        (f"{_READ}test_words_query_of_too_many_terms_is_refused",),
    ),
    Guard(
        "letters without blanks count as terms",
        WORDS,
        "max(1, -(-letters // IDEOGRAPHS_OF_A_TERM))",
        "max(1, 0 * letters)",
        (f"{_READ}test_words_query_of_too_many_terms_is_refused",),
    ),
    Guard(
        "a beginning has so many letters at least",
        WORDS,
        "and len(clause.text) < MIN_PREFIX]",
        "and not clause.text]",
        (f"{_READ}test_words_query_of_a_short_beginning_is_refused",),
    ),
    Guard(
        "every search is held to the limits of a query",
        SEARCH,
        "        check_terms(words)\n",
        "",
        (f"{_CALLED}test_search_of_too_much_is_refused_at_once",),
    ),
    Guard(
        "beginnings have so many words at most",
        SEARCH,
        "        self._check_beginnings(words, request.scope)\n",
        "",
        (f"{_CALLED}test_search_of_too_many_beginnings_is_refused",),
    ),
    Guard(
        "a search is stopped in time",
        POOLS,
        'name="heimdex-search", statement_timeout_s=SEARCH_TIMEOUT_S)',
        'name="heimdex-search")',
        (f"{_CALLED}test_search_whose_statement_runs_too_long_says_so",),
    ),
    Guard(
        "a search that is stopped says so",
        SEARCH,
        "    except (StatementTimeout, EngineTimeout) as error:",
        "    except ZeroDivisionError as error:",
        (f"{_CALLED}test_search_whose_statement_runs_too_long_says_so",),
    ),
    Guard(
        "searches of an owner take a share of the processors",
        CALLERS,
        "call_later(pause_s, self._turns.end, owner_id)",
        "call_later(0 * pause_s, self._turns.end, owner_id)",
        (f"{_CALLED}test_owner_whose_searches_take_long_pauses_between_them",),
    ),
    Guard(
        "searches of an owner take turns",
        CALLERS,
        "        await super()._begin(owner_id)\n",
        "        await super()._begin(object())\n",
        (f"{_CALLED}test_searches_of_one_owner_leave_the_others_theirs",),
    ),
    Guard(
        "a search that was given up keeps its turn",
        CALLERS,
        "running.add_done_callback(lambda _: loop.call_soon_threadsafe(self._end, owner_id, took_s))",
        "loop.call_later(0.3, self._turns.end, owner_id)",
        (f"{_CALLED}test_search_that_was_given_up_keeps_its_turn",),
    ),
    Guard(
        "health has a session of its own",
        HEALTH,
        "seen_workers(parts.health_pool or parts.pool, ",
        "seen_workers(parts.pool, ",
        (f"{_CALLED}test_health_answers_while_every_pool_is_full",),
    ),
    Guard(
        "health is asked once for all",
        HEALTH,
        "if self._asking is None or self._asking.done():",
        "if True:",
        (f"{_CALLED}test_health_asks_once_for_all_who_wait",),
    ),
    Guard(
        "callers are counted on every route",
        APP,
        "    api.add_middleware(CallerLimits, verifier=parts.verifier, limits=parts.limits)\n",
        "",
        (f"{_CALLED}test_route_has_the_rate_of_its_owner", f"{_CALLED}test_health_has_a_rate_of_its_own"),
    ),
    Guard(
        "callers without a token are counted",
        CALLERS,
        "(self._owners if isinstance(caller, UUID) else self._strangers).take(caller)",
        "_ = isinstance(caller, UUID) and self._owners.take(caller)",
        (f"{_CALLED}test_route_has_a_rate_for_callers_without_token",),
    ),
    Guard(
        "refusals are held back",
        CALLERS,
        "                await asyncio.sleep(REFUSAL_S)\n",
        "                await asyncio.sleep(0)\n",
        (f"{_CALLED}test_refusal_is_held_back",),
    ),
    Guard(
        "what is remembered of callers is bounded",
        ALLOWANCES,
        "if len(self) > self._most_callers:",
        "if not self:",
        (f"{_COUNTED}test_rates_remember_so_many_callers_and_forget_the_idlest",),
    ),
    Guard(
        "requests of a caller take turns",
        ALLOWANCES,
        "if line.running < self._most.at_once:",
        "if line.running >= 0:",
        (f"{_COUNTED}test_turns_run_so_many_at_once_in_order",),
    ),
    Guard(
        "the line of a caller has an end",
        ALLOWANCES,
        "if len(line.waiting) >= self._most.waiting:",
        "if line.running < 0:",
        (f"{_COUNTED}test_turns_refuse_a_request_when_the_line_is_full",),
    ),
    Guard(
        "headers have a time limit",
        CONNECTIONS,
        "late, what = now - self._head_since > limits.header_s, ",
        "late, what = False, ",
        (f"{_CONNECTED}test_connection_with_half_a_head_is_closed",),
    ),
    Guard(
        "a body has a time limit for its pauses",
        CONNECTIONS,
        "        return paused or now",
        "        return now",
        (f"{_CONNECTED}test_connection_with_half_a_body_is_closed",),
    ),
    Guard(
        "a body has a time limit for its whole",
        CONNECTIONS,
        "        return paused or now - self._body_since > limits.request_s + ANSWER_SLACK_S",
        "        return paused",
        (f"{_CONNECTED}test_connection_whose_body_drips_is_closed_in_the_end",),
    ),
    Guard(
        "headers have an end as they come",
        CONNECTIONS,
        "        if self._head_bytes > MAX_HEAD_BYTES:",
        "        if self._head_bytes < 0:",
        (f"{_CONNECTED}test_connection_with_an_endless_head_is_refused",),
    ),
    Guard(
        "half-open connections give way",
        CONNECTIONS,
        "            self.remove(waiting)\n            waiting.transport.abort()\n",
        "            return False\n",
        (f"{_CONNECTED}test_connection_beyond_the_most_makes_the_oldest_give_way",),
    ),
    Guard(
        "there are so many connections at most",
        CONNECTIONS,
        "        if len(self._all) >= self.limits.most:",
        "        if len(self._all) < 0:",
        (f"{_CONNECTED}test_connection_being_answered_never_gives_way",),
    ),
]
