"""Secrets in any text, by their names and by their forms; each is replaced, what is around it stays.

Owns which names are a secret's, in URL queries, headers, JSON, XML, Python and connection strings, and which sentences
only look like that. URLs and paths are ``redaction``'s. Every pattern here takes time in proportion to the text: what
repeats is possessive or bounded, and nothing is looked for from more than one place of a run of letters.
"""

import re

HIDDEN = "..."
_ALWAYS = (
    r"(?i:x-(?:amz|goog)-[a-z0-9-]{1,60}+|pass(?:word|wd|phrase)s?|pwd|secrets?|tokens?|signatures?|credentials?"
    r"|authori[sz]ation|cookies?|googleaccessid|sess(?:ion)?[-_]?id|apikeys?"
    r"|(?:access|account|shared|secret|private|auth|master|signing|storage|encryption|subscription|service)[-_]?keys?)"
)
"""Names of secrets, whatever is before them."""
_AS_WORDS = (
    r"(?:(?:(?<![A-Za-z])|(?<=%[0-9A-Fa-f]{2}))(?i:keys?|sig|sas|session|auth|jwt)"
    r"|(?<=[a-z0-9])(?:Keys?|Sig|Sas|Session|Auth|Jwt))"
)
"""Names of secrets where a word begins, as in ``my_key`` and ``MyKey``."""
_ENDING = r"(?:[-_.]?(?i:id|value|hash|base|data|string|b64|base64|pem|v?[0-9]{1,3}))?"
_IS = (
    r"(?P<is>\\{0,4}[\"'`]?\]?[ \t]{0,8}(?:=>|={1,2}|:=?(?!//)|%(?:25){0,4}3[AaDd])[ \t]{0,8})"
    r"(?:(?P<several>[\[({]\s{0,8}(?=[bru]?\\{0,4}[\"']))|(?:[A-Za-z_.]{1,40}\()?)"
)
_QUOTED = (
    r"[bru]?(?P<quote>\\{0,4}[\"'`])(?P<quoted>(?:(?!(?P=quote))(?:\\.|[^\\]))*+)"
    r"(?P<others>(?(several)[^\])}]*+))"
)
_PLAIN = (
    r"(?P<plain>(?![\[{][\s\"'\[{]|(?i:bearer )[<$])"
    r"(?:(?i:bearer|basic|digest|negotiate|sharedkey(?:lite)?|token|apikey)[ \t]{1,8})?"
    r"(?:[^\s&;,\"'`<>]|[\"'`](?=[^\s,;:)\]}&>])|,(?=[^\s\"'`)\]}]))++)"
)
_NAMED = re.compile(rf"(?s)(?P<always>{_ALWAYS})?(?(always)|(?P<word>{_AS_WORDS})){_ENDING}{_IS}(?:{_QUOTED}|{_PLAIN})")
_HEADER = re.compile(
    r"(?P<name>(?i:authorization|cookie)[ \t]{0,8}[:=][ \t]{0,8})(?!(?i:bearer )?[<$])(?P<value>[^\s\"'][^\r\n\"']*+)"
)
_PAIR = re.compile(
    rf"(?s)(?P<name>(?:{_ALWAYS}|{_AS_WORDS}){_ENDING}[\"'],[ \t]{{0,8}}[bru]?)"
    r"(?P<quote>[\"'])(?:(?!(?P=quote))(?:\\.|[^\\]))*+(?P=quote)(?=[ \t]{0,8}\))"
)
_ELEMENT = re.compile(r"<(?P<name>[A-Za-z][\w:.-]{0,80})(?P<rest>[^<>]{0,200})>(?P<value>[^<]++)(?=</)")
_NAME = re.compile(rf"(?:{_ALWAYS}|{_AS_WORDS}){_ENDING}\Z")
_PEM = re.compile(r"(?s)-----BEGIN [A-Z0-9 ]{1,40}-----.*?(?:-----END [A-Z0-9 ]{1,40}-----|\Z)")
_BARE = re.compile(
    r"(?<![\w-])(?:eyJ[\w-]*+\.[\w.=-]*+"  # JWT
    r"|(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,128}|ya29\.[\w-]++|AIza[\w-]{30,64}"
    r"|(?:gh[pousr]|github_pat|hf|sk)[_-][A-Za-z0-9_-]{20,255}|xox[abprs]-[\w-]++)"
)
_SCHEME = re.compile(r"(?<![\w-])((?i:bearer|basic)[ \t]{1,8})(?=[a-z]*+[A-Z0-9+/=._~-])[A-Za-z0-9+/=._~-]{8,}+")
_SETTING = re.compile(r"HEIMDEX_[A-Z0-9_]*\Z")
_PLACE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://")
_PLACEHOLDER = re.compile(r"%\(\w{1,40}\)s|%s|\$\{?[A-Z_]{2,40}\}?|\{\w{0,40}\}")
_COUNTED = re.compile(r"(?i)(?:key|token|session)s?\Z")
_TOLD_OF = {"key", "keys", "session", "auth"}
_RANDOM = re.compile(r"(?=[^0-9\s]{0,64}[0-9])[A-Za-z0-9+/=_~-]{16}")
_NOTHING = {"", HIDDEN, "None", "null", "true", "false", "True", "False", "<token>"}
_BEGIN_SENTENCES = {
    "a", "all", "an", "any", "as", "at", "by", "cannot", "for", "has", "have", "is", "it", "its", "make", "must",
    "neither", "no", "none", "not", "of", "only", "or", "others", "set", "that", "the", "there", "these", "they",
    "this", "those", "to", "too", "unset", "use", "was", "were", "which", "with",
}  # fmt: skip


def without_secrets(text: str) -> str:
    """``text`` with each secret in it replaced by ``HIDDEN``. Never raises; idempotent."""
    text = _PEM.sub(HIDDEN, text)
    text = _ELEMENT.sub(_hidden_element, text)
    text = _HEADER.sub(_hidden_header, text)
    text = _PAIR.sub(lambda found: f"{found['name']}{found['quote']}{HIDDEN}{found['quote']}", text)
    text = _NAMED.sub(_hidden_value, text)
    text = _SCHEME.sub(rf"\1{HIDDEN}", text)
    return _BARE.sub(HIDDEN, text)


def _hidden_element(found: re.Match[str]) -> str:
    if _NAME.search(found["name"]) is None:
        return found[0]
    return f"<{found['name']}{found['rest']}>{HIDDEN}"


def _hidden_header(found: re.Match[str]) -> str:
    end = found["value"].rstrip(" \t)]}.,")
    return found["name"] + HIDDEN + found["value"][len(end) :].replace(HIDDEN, "") if end else found[0]


def _hidden_value(found: re.Match[str]) -> str:
    name = found["always"] or found["word"]
    value = found["quoted"] if found["quoted"] is not None else found["plain"]
    if found["others"] and len(found["others"].strip()) > len(found["quote"]):
        value = found["others"]
    if value in _NOTHING or _PLACEHOLDER.fullmatch(value) is not None:
        return found[0]
    if value.isdecimal() and len(value) < 7 and _COUNTED.search(name):
        return found[0]
    if found["quote"] is None and found["is"].strip() == ":" and _is_sentence(found, value):
        return found[0]
    start = found.start("quoted") if found["quoted"] is not None else found.start("plain")
    closing = found["quote"] if found["others"] else ""
    return found.string[found.start() : start] + HIDDEN + closing


def _is_sentence(found: re.Match[str], value: str) -> bool:
    """Whether the text after a name and a colon is about it: ``no such key: a.mp4``, ``HEIMDEX_JWT_SECRET: set it``."""
    before = found.string[max(0, found.start() - 60) : found.start()]
    if _SETTING.search(before) is not None or _PLACE.match(value) is not None:
        return True
    is_told_of = before.endswith("Such") or re.search(r"[A-Za-z] \Z", before) is not None
    if is_told_of and (found["word"] or "").lower() in _TOLD_OF and _RANDOM.match(value) is None:
        return True
    return value in _BEGIN_SENTENCES and found.string[found.end() : found.end() + 1] == " "
