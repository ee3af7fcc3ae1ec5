"""The guards of tokens: which keys and claims are accepted, from where in a request, and who is an admin."""

from tests.chaos.guards_trial import Guard

AUTH = "serve_app/auth.py"
DOOR = "serve_app/guards.py"
APP = "serve_app/app.py"

_RULES = "tests/unit/test_token_rules.py::"
_HTTP = "tests/integration/test_auth.py::"
_BAD = (f"{_RULES}test_no_bad_token_names_a_user",)
_DOORS = "tests/unit/test_doors.py::"
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
        AUTH,
        "cooldown_duration=pause_s)",
        "cooldown_duration=0)",
        (f"{_HTTP}test_a_rotated_key_is_found_and_made_up_key_ids_cost_one_fetch",),
    ),
    Guard(
        "an issuer that is away is left alone for a while",
        AUTH,
        "time.monotonic() - self._failed_at < self._pause_s:",
        "self._pause_s < 0:",
        (f"{_HTTP}test_an_issuer_that_is_away_is_not_asked_again_at_once",),
    ),
    Guard(
        "one Authorization header",
        DOOR,
        "if len(sent) > 1:",
        "if len(sent) < 0:",
        ("tests/unit/test_doors.py::test_two_tokens_are_none",),
    ),
    Guard(
        "the scheme is Bearer",
        DOOR,
        'if scheme.lower() != "bearer" or not token:',
        "if not token:",
        ("tests/unit/test_doors.py::test_a_token_of_another_scheme_is_none",),
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
]
