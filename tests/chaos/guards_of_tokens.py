"""The guards of tokens: which keys and claims are accepted, from where in a request, and who is an admin."""

from tests.chaos.guards_trial import Guard

AUTH = "serve_app/auth.py"
KEYS = "serve_app/public_keys.py"
DOOR = "serve_app/guards.py"
APP = "serve_app/app.py"

_RULES = "tests/unit/test_token_rules.py::"
_KEYS = "tests/unit/test_public_keys.py::"
_HTTP = "tests/integration/test_auth.py::"
_BAD = (f"{_RULES}test_no_bad_token_names_a_user",)
_DOORS = "tests/unit/test_route_guards.py::"
_FILES = "tests/unit/test_secret_files.py::"
_ADMINS = f"{_DOORS}test_users_pass_where_users_may_and_admins_everywhere"
_OPTIONS = 'options={"require": ["exp", "sub", "aud"]},'


def _unverified(claim: str) -> str:
    return f'options={{"require": ["exp", "sub", "aud"], "verify_{claim}": False}},'


TOKENS = [
    Guard(
        "the signature",
        AUTH,
        _OPTIONS,
        'options={"require": ["exp", "sub", "aud"], "verify_signature": False, "verify_aud": True},',
        _BAD,
    ),
    Guard("the audience", AUTH, _OPTIONS, _unverified("aud"), _BAD),
    Guard("the expiry", AUTH, _OPTIONS, _unverified("exp"), _BAD),
    Guard("not before", AUTH, _OPTIONS, _unverified("nbf"), _BAD),
    Guard("issued at", AUTH, _OPTIONS, _unverified("iat"), _BAD),
    Guard("an expiry is there", AUTH, '"require": ["exp", ', '"require": [', _BAD),
    Guard("the leeway is short", AUTH, "LEEWAY = timedelta(seconds=5)", "LEEWAY = timedelta(hours=5)", _BAD),
    Guard(
        "the list of algorithms",
        AUTH,
        " and algorithm in PUBLIC_KEY_ALGORITHMS:",
        ":",
        (f"{_HTTP}test_an_algorithm_must_fit_the_key_that_is_named",),
    ),
    Guard(
        "a key is for one algorithm",
        AUTH,
        "if key.algorithm_name == algorithm:",
        "if key.algorithm_name:",
        (f"{_RULES}test_a_key_is_for_one_algorithm",),
    ),
    Guard(
        "a secret is long enough",
        AUTH,
        "len(secret.encode()) < MIN_SECRET_BYTES:",
        "not secret:",
        (f"{_HTTP}test_rules_without_a_usable_key_are_refused",),
    ),
    Guard(
        "keys come encrypted, or from this machine",
        AUTH,
        "not is_protected(self.jwks_url):",
        "not self.jwks_url:",
        (f"{_HTTP}test_rules_without_a_usable_key_are_refused",),
    ),
    Guard(
        "a secret is not shown",
        AUTH,
        "jwt_secret: str | None = field(repr=False)",
        "jwt_secret: str | None = field()",
        (f"{_HTTP}test_rules_without_a_usable_key_are_refused",),
    ),
    Guard("nothing is named twice", AUTH, "if len(found) < len(pairs):", "if not pairs:", _BAD),
    Guard("one spelling: no padding", AUTH, "if not _THREE_PARTS.fullmatch(token):", "if not token:", _BAD),
    Guard("no extensions", AUTH, 'if "crit" in header or "b64" in header:', "if not header:", _BAD),
    Guard(
        "times are numbers",
        AUTH,
        "if any(type(claims.get(name, 0)) not in (int, float, type(None)) for name in _TIMES):",
        "if not claims:",
        _BAD,
    ),
    Guard(
        "one spelling: the user's id",
        AUTH,
        "if user_id is None or str(user_id) != sub.lower():",
        "if not user_id:",
        _BAD,
    ),
    Guard(
        "made-up key ids are no flood on the issuer",
        KEYS,
        "is_pause = last.ended_within(self._pause_s) and",
        "is_pause = last.ended_within(0.0) and",
        (f"{_HTTP}test_rotated_key_is_found_and_unknown_ids_cost_one_fetch",),
    ),
    Guard(
        "an issuer that is away is left alone for a while",
        KEYS,
        "and (last.failed or not lacks_keys)",
        "and not (last.failed or lacks_keys)",
        (f"{_HTTP}test_an_issuer_that_is_away_is_not_asked_again_at_once",),
    ),
    Guard(
        "one token waits for an unknown key",
        KEYS,
        "if not self._one_waits.acquire(blocking=False):",
        "if not self._one_waits.acquire():",
        (f"{_KEYS}test_cached_key_while_issuer_hangs_verifies_at_once",),
    ),
    Guard(
        "a token waits shortly for an unknown key",
        KEYS,
        "fetch.wait(PATIENCE_S)",
        "fetch.wait(self._timeout_s)",
        (f"{_KEYS}test_unknown_key_while_issuer_hangs_is_refused_soon",),
    ),
    Guard(
        "a key set near its end is fetched while in use",
        KEYS,
        "                self._current_fetch()\n            return found",
        "                self._wait_for(self._current_fetch())\n            return found",
        (f"{_KEYS}test_key_set_near_its_end_is_fetched_while_in_use",),
    ),
    Guard(
        "an issuer whose answer is no key set counts as away",
        KEYS,
        "self.failed = True",
        "self.failed = False",
        (f"{_KEYS}test_answer_that_is_no_key_set_is_away",),
    ),
    Guard(
        "one Authorization header",
        DOOR,
        "if len(sent) > 1:",
        "if len(sent) < 0:",
        ("tests/unit/test_route_guards.py::test_two_tokens_are_none",),
    ),
    Guard(
        "the scheme is Bearer",
        DOOR,
        'if scheme.lower() != "bearer" or not token:',
        "if not token:",
        ("tests/unit/test_route_guards.py::test_a_token_of_another_scheme_is_none",),
    ),
    Guard("admins alone", DOOR, "if not _verifier(request).is_admin(user_id):", "if user_id is None:", (_ADMINS,)),
    Guard(
        "admins are those that are named",
        AUTH,
        "return user_id in self._rules.admin_user_ids",
        "return user_id not in self._rules.admin_user_ids or True",
        (_ADMINS,),
    ),
    Guard(
        "admin routes are admins'",
        APP,
        '_add(api, "admin", ADMIN_ROUTES, AdminRoute)',
        '_add(api, "admin", ADMIN_ROUTES, UserRoute)',
        ("tests/integration/test_routes_guarded.py::test_every_admin_route_is_closed_to_users",),
    ),
    Guard(
        "the token is judged before the body is read",
        DOOR,
        "            # On a thread: fetching keys must not block the event loop.\n",
        "            await request.body()\n",
        (f"{_DOORS}test_who_does_not_pass_is_not_even_listened_to",),
    ),
    Guard(
        "the role anon names nobody",
        AUTH,
        "        self._check_role(claims)\n",
        "",
        (f"{_RULES}test_token_of_the_role_anon_is_refused", *_BAD),
    ),
    Guard(
        "the issuer, where it is set",
        AUTH,
        "            issuer=self._rules.issuer,\n",
        "",
        (f"{_RULES}test_issuer_is_required_where_it_is_set",),
    ),
    Guard(
        "the lifetime, where it is bounded",
        AUTH,
        'if int(claims["exp"]) - int(claims["iat"]) > longest_s:',
        "if longest_s < 0:",
        (f"{_RULES}test_lifetime_is_bounded_where_it_is_set",),
    ),
    Guard(
        "a bounded lifetime has a beginning",
        AUTH,
        '        if claims.get("iat") is None:\n            raise Unauthorized("The token has no \'iat\'.")\n',
        '        claims.setdefault("iat", claims["exp"])\n',
        (f"{_RULES}test_lifetime_is_bounded_where_it_is_set",),
    ),
    Guard(
        "the secret before signs while it is set, and no longer",
        AUTH,
        'if header["alg"] != SHARED_SECRET_ALGORITHM or self._rules.previous_secret is None:',
        'if header["alg"]:',
        (f"{_RULES}test_secret_before_the_change_signs_while_it_is_set",),
    ),
    Guard(
        "a secret's file is closed to others",
        "cluster/security/secret_files.py",
        "if found.st_mode & stat.S_IRWXO:",
        "if found.st_mode < 0:",
        (f"{_FILES}test_file_open_to_all_is_refused", f"{_FILES}test_linked_file_is_read_by_its_own_mode"),
    ),
    Guard(
        "a secret's file is of this account",
        "cluster/security/secret_files.py",
        "if found.st_uid not in {os.geteuid(), 0}:",
        "if found.st_uid < 0:",
        (f"{_FILES}test_file_of_another_account_is_refused",),
    ),
    Guard(
        "a secret's file is written by no group",
        "cluster/security/secret_files.py",
        "if found.st_mode & stat.S_IWGRP and has_other_members(found.st_gid):",
        "if found.st_mode < 0:",
        (f"{_FILES}test_file_that_a_group_may_write_is_refused",),
    ),
    Guard(
        "a secret's file cannot be swapped",
        "cluster/security/secret_files.py",
        "if not os.path.samestat(safe_status(path.expanduser()), found):",
        "if not found:",
        (f"{_FILES}test_file_that_others_may_swap_is_refused", f"{_FILES}test_link_of_another_account_is_refused"),
    ),
    Guard(
        "a secret is set in one way",
        "cluster/security/secret_files.py",
        'if found.get(name) not in (None, ""):',
        "if not name:",
        (f"{_FILES}test_secret_set_in_both_ways_is_refused",),
    ),
    Guard(
        "secrets stay off the network in clear text",
        "cluster/settings.py",
        "if url and not is_protected(url):",
        "if url == name:",
        (f"{_FILES}test_secret_by_an_open_channel_is_refused",),
    ),
    Guard(
        "http is for loopback alone",
        "cluster/contracts/channels.py",
        'return host == "localhost" or ip_address(host).is_loopback',
        'return host == "localhost" or not ip_address(host).is_global',
        (f"{_FILES}test_only_loopback_goes_without_encryption",),
    ),
]
