"""Random changes of a valid token: bits, characters, segments, encoding, members, JSON and signature.

The verifier and PyJWT are compared on them in `test_fuzz`.
"""

import base64
import json
import random
import string
from collections.abc import Callable, Iterator
from typing import Any

from support.attacks.forging import hs256, public, signed_as

ALPHABET = string.ascii_letters + string.digits + "-_"
STRANGE = '=+/.,:;!%" \t\r\n\0\x7f\xa0\xad\u00e9\u0660\u200b\u2028\uff11\udc80\U0001f600'
JSON_STRANGE = (
    b" ",
    b"\t",
    b"\0",
    b",",
    b"}",
    b"]",
    b'"',
    b"\\",
    b"\\u0000",
    b"\xff",
    b"\xc0\xae",
    b"/**/",
    b"//\n",
)
CODECS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "latin-1", "utf-7")
HEADER_NAMES = (
    "alg", "typ", "kid", "cty", "crit", "b64", "jwk", "jku", "x5c", "x5u", "x5t", "zip", "enc", "epk", "x", "",
)  # fmt: skip
CLAIM_NAMES = (
    "iss", "sub", "aud", "client_id", "username", "iat", "exp", "nbf", "jti", "scope", "auth_time", "x", "",
)  # fmt: skip
ANYTHING: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 10**18, 10**400, 1.5, 1e308, float("nan"), float("inf"), [], [[]], {}, {"a": []},
    "", "x", "x" * 2000, "\0", "\udc80", "a b", "a  b", "none", "RS256", "JWT", "at+jwt", "AT+JWT",
    "application/at+jwt",
)  # fmt: skip
OFFSETS = (-(10**9), -3600, -60, -20, -5, 0, 5, 20, 60, 3600, 10**9)
"""Seconds from now; none is near the leeway, so that the time of the verification does not matter."""


class Mutants:
    """Makes mutants of tokens that are valid at `clock`."""

    def __init__(self, forge: Any, rng: random.Random, clock: Callable[[], float]) -> None:
        self._forge = forge
        self._rng = rng
        self._clock = clock
        self._kinds: tuple[tuple[Callable[[], str], int], ...] = (
            (self._good, 1),
            (self._bits, 3),
            (self._characters, 4),
            (self._segments, 3),
            (self._spelling, 3),
            (self._header, 4),
            (self._claims, 6),
            (self._text, 4),
            (self._signature, 2),
        )
        self._parents: list[str] = []
        self.signed: set[str] = set()
        """The valid tokens that were made, mutants or not."""

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Yield the kind of each mutant, and the mutant."""
        kinds, weights = zip(*self._kinds, strict=True)
        while True:
            (kind,) = self._rng.choices(kinds, weights)
            yield kind.__name__.strip("_"), kind()

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(self._clock())
        return dict(
            self._forge.claims(**{"iat": now, "exp": now + 600, "jti": str(self._rng.random()), **changes})
        )

    def _good(self) -> str:
        token = str(self._forge.signed(self._forge.header(), self.claims()))
        self.signed.add(token)
        return token

    def _parent(self) -> str:
        """Sign a new token from time to time; signatures are the slowest part."""
        if len(self._parents) < 8 or self._rng.random() < 0.02:
            self._parents = [*self._parents[-7:], self._good()]
        return self._rng.choice(self._parents)

    def _bits(self) -> str:
        segments = self._parent().split(".")
        at = self._rng.randrange(3)
        raw = bytearray(base64.urlsafe_b64decode(segments[at] + "=="))
        for _ in range(self._rng.choice((1, 1, 1, 2, 8))):
            raw[self._rng.randrange(len(raw))] ^= 1 << self._rng.randrange(8)
        segments[at] = self._forge.segment(bytes(raw))
        return ".".join(segments)

    def _characters(self) -> str:
        token = self._parent()
        for _ in range(self._rng.choice((1, 1, 1, 2, 5))):
            at = self._rng.randrange(len(token) + 1)
            old = token[at : at + self._rng.choice((0, 0, 1, 1, 1, 2, 4, 400))]
            new = "".join(self._rng.choices(ALPHABET * 3 + STRANGE, k=self._rng.choice((0, 1, 1, 2, 4))))
            token = (
                token[:at] + self._rng.choice((new, new, old * 2, old.swapcase())) + token[at + len(old) :]
            )
        return token

    def _segments(self) -> str:
        mine, other = self._parent().split("."), self._good().split(".")
        at = self._rng.randrange(3)
        return ".".join(
            self._rng.choice(
                (
                    [*mine[:at], other[at], *mine[at + 1 :]],
                    [*mine[:at], "", *mine[at + 1 :]],
                    [*mine[:at], *mine[at + 1 :]],
                    [*mine, other[at]],
                    [*mine, "", ""],
                    self._rng.sample(mine, 3),
                    [*mine[:at], mine[at] * 2, *mine[at + 1 :]],
                    [*mine[:at], mine[at][: self._rng.randrange(len(mine[at]))], *mine[at + 1 :]],
                )
            )
        )

    def _spelling(self) -> str:
        segments = self._parent().split(".")
        at = self._rng.randrange(3)
        one = segments[at]
        last = ALPHABET[self._rng.randrange(64)]
        position = self._rng.randrange(len(one))
        segments[at] = self._rng.choice(
            (
                one[:-1] + last,
                one + "=" * self._rng.randrange(1, 4),
                one.replace("-", "+").replace("_", "/"),
                one[:position] + self._rng.choice(STRANGE) + one[position:],
                one + "A" * self._rng.randrange(1, 5),
                "".join(f"%{ord(letter):02X}" if self._rng.random() < 0.02 else letter for letter in one),
            )
        )
        return ".".join(segments)

    def _header(self) -> str:
        header = self._changed(dict(self._forge.header()), HEADER_NAMES)
        return str(self._forge.signed(header, self.claims()))

    def _claims(self) -> str:
        return str(self._forge.signed(self._forge.header(), self._changed(self.claims(), CLAIM_NAMES)))

    def _text(self) -> str:
        """Change the JSON text of the header or the payload, and sign it."""
        parts = [
            self._forge.header(),
            self.claims(username=self._rng.choice(("alice", "Zoë", "北", "\u2028"))),
        ]
        at = self._rng.randrange(2)
        plain = json.dumps(
            parts[at], ensure_ascii=self._rng.random() < 0.5, indent=self._rng.choice((None, 0, 2))
        )
        raw = bytearray(plain.encode(errors="surrogatepass"))
        name = self._rng.choice(list(parts[at]))
        match self._rng.randrange(6):
            case 0:
                raw = bytearray(plain.encode(self._rng.choice(CODECS), errors="replace"))
            case 1:
                position = self._rng.randrange(len(raw) + 1)
                raw[position:position] = self._rng.choice(JSON_STRANGE)
            case 2:
                raw[-1:] = b", " + json.dumps({name: self._value()}).encode(errors="surrogatepass")[1:]
            case 3:
                escaped = "".join(f"\\u{ord(letter):04x}" for letter in name)
                raw = bytearray(plain.replace(f'"{name}"', f'"{escaped}"').encode())
            case 4:
                raw[self._rng.randrange(len(raw))] = self._rng.randrange(256)
            case _:
                raw = raw + self._rng.choice((b" ", b"\n", b"{}", b"\0", b"null"))
        parts[at] = bytes(raw)
        return str(self._forge.signed(*parts))

    def _signature(self) -> str:
        forge = self._forge
        match self._rng.randrange(6):
            case 0:
                return str(forge.signed(forge.header(), self.claims(), forge.stranger))
            case 1:
                return signed_as(forge, self._rng.choice(("PS256", "RS384", "RS512")))
            case 2:
                return hs256(forge, public(forge))
            case 3:
                return f"{forge.unsigned(forge.header(alg='none'), self.claims())}."
            case 4:
                length = self._rng.choice((0, 1, 64, 255, 256, 257))
                return f"{forge.unsigned(forge.header(), self.claims())}.{forge.segment(self._rng.randbytes(length))}"
            case _:
                return str(forge.signed(forge.header(kid=forge.stranger.kid), self.claims(), forge.stranger))

    def _changed(self, members: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
        for _ in range(self._rng.choice((1, 1, 1, 2, 3))):
            name = self._rng.choice((*members, *names))
            if self._rng.random() < 0.15:
                members.pop(name, None)
            else:
                members[name] = self._value(members.get(name))
        return members

    def _value(self, old: Any = None) -> Any:
        """Return a JSON value: any, an instant, or one similar to the old value."""
        rng, issuer, now = self._rng, self._forge.issuer.url, int(self._clock())
        near: list[Any] = [str(old), [old], {"": old}, old]
        if isinstance(old, str):
            near += [
                old + rng.choice(STRANGE),
                old.upper(),
                old[:-1],
                old + "/",
                old.split(),
                [old, 1],
                [old, "x"],
            ]
        moment = now + rng.choice(OFFSETS)
        ours = [
            self._forge.key.kid,
            self._forge.key.jwk,
            issuer,
            [issuer],
            "https://api.test",
            ["https://api.test"],
        ]
        return rng.choice(
            rng.choice((near, ANYTHING, ours, [moment, float(moment), moment + 0.5, str(moment)]))
        )
