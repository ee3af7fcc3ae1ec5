"""Tokens that must never be accepted, each with what is wrong with it, and how good ones are made.

The claims are kept as JSON text, since much of what is wrong (a name twice, NaN, 1e400) no library would write.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.chaos.token_issuer import EC_KEY, RSA_KEY, jwk

OTHER_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_EC_KEY = ec.generate_private_key(ec.SECP256R1())
_ALGORITHMS = jwt.algorithms.get_default_algorithms()
_OTHER_SECRET = "another secret of at least thirty-two bytes"

BAD_CLAIMS: dict[str, list[tuple[str, str | None]]] = {
    "exp": [
        *(("over", text) for text in ("0", "1", "-1", "-1e9", "1.5", "-0.0")),
        *(("no number", text) for text in ("true", "false", "[]", "{}", '""', '"soon"', '"99999999999"', '"inf"')),
        *(("not finite", text) for text in ("NaN", "Infinity", "-Infinity", "1e400", "-1e400")),
        ("null", "null"),
        ("missing", None),
        ("of 5000 digits", "9" * 5000),
    ],
    "nbf": [("no time", text) for text in ('"0"', "NaN", "1e400", "[]", "true", '"1e400"', "99999999999")],
    "iat": [("no time", text) for text in ('"0"', "NaN", "1e400", "{}", "false", "99999999999", "1e300")],
    "aud": [
        *(("another", text) for text in ('"anon"', '"Authenticated"', '"authenticated "', '"authenticated,x"', '""')),
        *(("a list without it", text) for text in ("[]", '["anon"]', '["anon", ["authenticated"]]')),
        *(("no audience", text) for text in ("1", "true", '{"authenticated": 1}', '["authenticated", 1]', "null")),
        ("missing", None),
    ],
    "sub": [
        *(("no text", text) for text in ("7", "true", "null", "[]", "{}", '["SUB"]', '{"id": "SUB"}')),
        *(("no UUID", text) for text in ('""', '"admin"', '"*"', '"SUB SUB"', '"SUB,"', '"\\ud800"', '"SUB\\u0000"')),
        *(("another spelling", text) for text in ('"{SUB}"', '"urn:uuid:SUB"', '" SUB"', '"SUB\\n"', '"BARE"')),
        ("digits beyond ASCII", '"WIDE"'),
        ("missing", None),
    ],
    "role": [
        *(("anonymous", text) for text in ('"anon"', '"ANON"', '" anon\\n"', '"\\u0061non"')),
        *(("no text", text) for text in ("null", "1", "true", "[]", '["authenticated"]', '{"anon": 1}')),
    ],
}
DUPLICATES = {
    "sub twice": '"sub": "00000000-0000-4000-8000-000000000000", "sub": "SUB"',
    "exp twice": '"exp": 1, "exp": 99999999999',
    "aud twice": '"aud": "anon", "aud": "authenticated"',
    "a name twice further in": '"app": {"role": "a", "role": "b"}',
}
NO_CLAIMS = {
    "a list": b"[]",
    "a text": b'"claims"',
    "null": b"null",
    "nothing": b"",
    "no JSON": b"{",
    "two objects": b"{}{}",
    "not UTF-8": b'{"sub": "\xff"}',
    "UTF-16": '{"sub": "x"}'.encode("utf-16"),
    "nested deep": b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
}
BAD_HEADERS: dict[str, dict[str, Any]] = {
    "crit that is unknown": {"crit": ["exp"], "exp": 1},
    "crit that is empty": {"crit": []},
    "crit that is no list": {"crit": "b64"},
    "crit of b64": {"crit": ["b64"], "b64": True},
    "b64 false": {"crit": ["b64"], "b64": False},
    "b64 without crit": {"b64": True},
    "kid a number": {"kid": 7},
    "kid a list": {"kid": ["ec"]},
    "kid an object": {"kid": {}},
}
KEY_IDS = ["../../../../dev/null", "' UNION SELECT 'x' -- ", "x|whoami", "{trap}/key", "file:///dev/null", "\x00", ""]


@dataclass(frozen=True)
class Signer:
    """A key with what its tokens' headers say."""

    algorithm: str
    key: Any
    kid: str | None = None

    def sign(self, payload: bytes, header: dict[str, Any] | bytes | None = None) -> str:
        """A token of this payload; ``header``: what is said beside, or the whole of it."""
        if not isinstance(header, bytes):
            whole = {"alg": self.algorithm, "typ": "JWT", "kid": self.kid, **(header or {})}
            header = json.dumps({name: value for name, value in whole.items() if value is not None}).encode()
        unsigned = f"{_base64(header)}.{_base64(payload)}"
        algorithm = _ALGORITHMS[self.algorithm]
        return f"{unsigned}.{_base64(algorithm.sign(unsigned.encode(), algorithm.prepare_key(self.key)))}"


@dataclass(frozen=True)
class Tokens:
    """Values common to all tokens of a run. ``trap``: an origin that must receive no request."""

    secret: str
    user_id: UUID
    now: int
    trap: str

    @property
    def signers(self) -> list[Signer]:
        """Those that are trusted."""
        return [Signer("HS256", self.secret), Signer("ES256", EC_KEY, "ec"), Signer("RS256", RSA_KEY, "rsa")]

    def claims(self, name: str = "", text: str | None = None) -> bytes:
        """The claims of a good token, but for one that is another text, or missing."""
        sub = str(self.user_id)
        claims = {"sub": f'"{sub}"', "aud": '"authenticated"', "exp": str(self.now + 3600), "iat": str(self.now)}
        claims |= {name: text} if text is not None else {}
        body = ", ".join(f'"{key}": {value}' for key, value in claims.items() if key != name or text is not None)
        return self._filled(f"{{{body}}}")

    def _filled(self, text: str) -> bytes:
        sub = str(self.user_id)
        wide = sub[:-1] + chr(ord("０") + int(sub[-1]))
        return text.replace("SUB", sub).replace("BARE", sub.replace("-", "")).replace("WIDE", wide).encode()

    def bad(self) -> Iterator[tuple[str, str]]:
        """Every bad token, named after what is wrong with it."""
        for signer in self.signers:
            for what, token in [*self._bad_claims(signer), *self._bad_headers(signer), *_misshapen(self._good(signer))]:
                yield f"{signer.algorithm}: {what}", token
        yield from self._unsigned()
        yield from self._signed_by_others()
        yield from self._confused()

    def _good(self, signer: Signer) -> str:
        return signer.sign(self.claims())

    def _bad_claims(self, signer: Signer) -> Iterator[tuple[str, str]]:
        for name, texts in BAD_CLAIMS.items():
            for what, text in texts:
                yield f"{name} {what}: {(text or '')[:30]}", signer.sign(self.claims(name, text))
        yield "expired just now", signer.sign(self.claims("exp", str(self.now - 6)))
        yield "issued in an hour", signer.sign(self.claims("iat", str(self.now + 3600)))
        yield "valid in an hour", signer.sign(self.claims("nbf", str(self.now + 3600)))
        for what, text in DUPLICATES.items():
            name = text.partition(":")[0].strip('"')
            yield what, signer.sign(self.claims(name)[:-1] + b", " + self._filled(text) + b"}")
        for what, payload in NO_CLAIMS.items():
            yield f"claims: {what}", signer.sign(payload)
        yield "nested", signer.sign(self._good(signer).encode(), {"cty": "JWT"})
        yield "nested as a text", signer.sign(json.dumps(self._good(signer)).encode())

    def _bad_headers(self, signer: Signer) -> Iterator[tuple[str, str]]:
        for what, header in BAD_HEADERS.items():
            yield what, signer.sign(self.claims(), header)
        for what, header_text in NO_CLAIMS.items():
            yield f"header: {what}", signer.sign(self.claims(), header_text)
        alg = f'"alg": "{signer.algorithm}"'
        for what, text in {
            "alg twice": f'{{"alg": "none", {alg}, "kid": "{signer.kid}"}}',
            "kid twice": f'{{{alg}, "kid": "x", "kid": "{signer.kid}"}}',
            "alg NaN": '{"alg": NaN}',
            "alg in other letters": f'{{"alg": "{signer.algorithm.lower()}", "kid": "{signer.kid}"}}',
            "alg with a space": f'{{"alg": "{signer.algorithm} ", "kid": "{signer.kid}"}}',
            "alg a list": f'{{"alg": ["{signer.algorithm}"], "kid": "{signer.kid}"}}',
            "alg null": f'{{"alg": null, "kid": "{signer.kid}"}}',
            "no alg": f'{{"kid": "{signer.kid}"}}',
        }.items():
            yield what, signer.sign(self.claims(), text.encode())

    def _unsigned(self) -> Iterator[tuple[str, str]]:
        for letters in product(*zip("none", "NONE", strict=True)):
            alg = "".join(letters)
            unsigned = f"{_base64(json.dumps({'alg': alg}).encode())}.{_base64(self.claims())}"
            yield f"alg {alg}", f"{unsigned}."
            yield f"alg {alg}, signed", f"{unsigned}.{self._good(self.signers[0]).rpartition('.')[2]}"
        for alg in ("", " ", "null", "nоne", "none\u0000", "HS0"):  # the o of the fourth is Cyrillic
            header = json.dumps({"alg": alg}).encode()
            yield f"alg {alg!r}", f"{_base64(header)}.{_base64(self.claims())}."
        for signer in self.signers:
            unsigned = self._good(signer).rpartition(".")[0]
            for what, signature in {"none": b"", "zeros": bytes(64), "ones": b"\xff" * 64, "a byte": b"\x00"}.items():
                yield f"{signer.algorithm}, signature {what}", f"{unsigned}.{_base64(signature)}"

    def _signed_by_others(self) -> Iterator[tuple[str, str]]:
        good = self.claims()
        for key in (_OTHER_SECRET, "", "\x00" * 32, "secret", self.secret + "\n", self.secret.upper(), "null"):
            yield f"another secret {key[:8]!r}", _hmac(good, key.encode())
        for kid in KEY_IDS:
            named = kid.replace("{trap}", self.trap)
            for secret in (b"", b"x", b"\x00"):
                yield f"kid {kid!r} with {secret!r}", _hmac(good, secret, kid=named)
            yield f"kid {kid!r}", Signer("ES256", OTHER_EC_KEY, named or "?").sign(good)
        for signer in (Signer("ES256", OTHER_EC_KEY, "ec"), Signer("RS256", OTHER_RSA_KEY, "rsa")):
            own = jwk(signer.key, signer.kid or "")
            offered: dict[str, Any] = {"jwk": own, "jku": f"{self.trap}/keys", "x5u": f"{self.trap}/certificates"}
            offered["x5c"] = [base64.b64encode(_der(signer.key)).decode()]
            yield f"{signer.algorithm}, another key of the same id", signer.sign(good)
            for name, value in offered.items():
                yield f"{signer.algorithm}, {name} of its own", signer.sign(good, {name: value})
                yield f"{signer.algorithm}, {name}, unknown id", signer.sign(good, {name: value, "kid": "own"})

    def _confused(self) -> Iterator[tuple[str, str]]:
        """Signed with a key that is known, in a way that it is not for."""
        good = self.claims()
        for key, kid in ((RSA_KEY, "rsa"), (EC_KEY, "ec")):
            for what, text in {
                "PEM": _pem(key),
                "PEM without its last line feed": _pem(key).strip(),
                "DER": _der(key),
                "JWK": json.dumps(jwk(key, kid)).encode(),
            }.items():
                for algorithm in ("HS256", "HS384", "HS512"):
                    yield f"{algorithm} with the {kid} key's {what}", _hmac(good, text, algorithm, kid)
        for algorithm in ("HS384", "HS512"):
            yield f"{algorithm} with the secret", _hmac(good, self.secret.encode(), algorithm)
        for algorithm in ("RS384", "RS512", "PS256", "PS384", "PS512"):
            yield f"{algorithm} with the RSA key", Signer(algorithm, RSA_KEY, "rsa").sign(good)
        yield "EdDSA", Signer("EdDSA", ed25519.Ed25519PrivateKey.generate(), "ec").sign(good)
        yield "ES384", Signer("ES384", ec.generate_private_key(ec.SECP384R1()), "ec").sign(good)
        yield "the EC key under the RSA key's id", Signer("ES256", EC_KEY, "rsa").sign(good)
        yield "the RSA key under the EC key's id", Signer("RS256", RSA_KEY, "ec").sign(good)
        yield "ES256 without an id", Signer("ES256", EC_KEY).sign(good)
        yield "ES256 that says HS256", Signer("ES256", EC_KEY, "ec").sign(good, {"alg": "HS256"})
        yield "HS256 that says ES256", Signer("HS256", self.secret, "ec").sign(good, {"alg": "ES256"})
        unsigned = Signer("ES256", EC_KEY, "ec").sign(good).rpartition(".")[0]
        der = EC_KEY.sign(unsigned.encode(), ec.ECDSA(hashes.SHA256()))
        yield "ES256 with its signature in DER", f"{unsigned}.{_base64(der)}"


def _misshapen(good: str) -> Iterator[tuple[str, str]]:
    """A good token with something cut off, added or moved."""
    head, body, signature = good.split(".")
    yield "cut by a letter", good[:-1]
    yield "cut in half", good[: len(good) // 2]
    yield "without its signature", f"{head}.{body}"
    yield "without its signature but for the dot", f"{head}.{body}."
    yield "without header", f".{body}.{signature}"
    yield "without claims", f"{head}..{signature}"
    yield "cut claims", f"{head}.{body[:-4]}.{signature}"
    yield "five parts", f"{good}.{body}.{signature}"
    yield "four parts", f"{good}."
    yield "a dot before", f".{good}"
    yield "twice", f"{good}{good}"
    yield "twice with a comma", f"{good},{good}"
    for padding in ("=", "==", "===", "%3D"):
        yield f"padded with {padding}", good + padding
        yield f"claims padded with {padding}", f"{head}.{body}{padding}.{signature}"
        yield f"header padded with {padding}", f"{head}{padding}.{body}.{signature}"
    for letter in ("!", "+", "/", " ", "\t", "\xa0", "\xad", "é", "\x7f"):
        yield f"{letter!r} in its signature", f"{head}.{body}.{signature[:9]}{letter}{signature[9:]}"
        yield f"{letter!r} in its claims", f"{head}.{body[:9]}{letter}{body[9:]}.{signature}"
    yield "in quotes", f'"{good}"'
    yield "other dots", good.replace(".", "\xb7")
    yield "in another alphabet", base64.b64encode(good.encode()).decode()
    yield "in capitals", good.upper()
    yield "turned round", ".".join(reversed(good.split(".")))
    yield "huge", good + "A" * 24_000
    other = base64.urlsafe_b64encode(base64.urlsafe_b64decode(body + "==") + b" ").rstrip(b"=").decode()
    yield "other claims", f"{head}.{other}.{signature}"
    yield "another last letter", good[:-1] + ("A" if good[-1] not in "ABCD" else "w")


def _hmac(payload: bytes, key: bytes, algorithm: str = "HS256", kid: str | None = None) -> str:
    """Signed with what PyJWT would not take for a secret."""
    header = json.dumps({"alg": algorithm, **({"kid": kid} if kid is not None else {})}).encode()
    unsigned = f"{_base64(header)}.{_base64(payload)}"
    return f"{unsigned}.{_base64(_ALGORITHMS[algorithm].sign(unsigned.encode(), key))}"


def _base64(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def _pem(key: Any) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))


def _der(key: Any) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(key.public_key().public_bytes(serialization.Encoding.DER, form))
