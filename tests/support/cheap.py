"""What costs time in production and proves nothing in most tests, made cheap in the process of the tests.

Servers and commands in processes of their own are as in production; `production_rounds` and `production_passwords`
are for tests of exactly that.
"""

import gc
import math
import os
import ssl
from collections import deque
from functools import cache
from itertools import product
from typing import Any

import httpcore2
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import rsa

from issuer.accounts.passwords import Passwords
from issuer.signing import encryption
from support import cheap_databases

EXPONENT, BITS = 65537, 2048
PRIMES_AT_ONCE = 8
ROUNDS = encryption.ROUNDS
PASSWORD_COST: tuple[int, int] = Passwords.__init__.__defaults__  # type: ignore[assignment]

_generate = rsa.generate_private_key
_load_authorities = httpcore2.default_ssl_context
_first_primes: list[int] = []
_second_primes: list[int] = []
_pairs: deque[tuple[int, int]] = deque()


def make_cheap() -> None:
    """Make keys, hashes, derivations from passphrases, HTTP clients, logs and databases cheap in this process."""
    cheap_databases.make_cheap()
    httpcore2.default_ssl_context = default_ssl_context
    # A log that no test configured is read by nobody: tracebacks with the source and the variables take seconds.
    structlog.dev.ConsoleRenderer.get_active().exception_formatter = structlog.dev.plain_traceback
    rsa.generate_private_key = generate_private_key  # type: ignore[assignment]
    encryption.ROUNDS = 2048  # type: ignore[misc]
    os.fsync = lambda fd: None  # noqa: ARG005 # no test makes the power fail
    Passwords.__init__.__defaults__ = (8, 1)  # type: ignore[misc]
    gc.set_threshold(50_000, 20, 100)  # tests make many objects, and most of them live until the end


def default_ssl_context(*, _trust_env: bool = True) -> ssl.SSLContext:
    """Load the authorities, which takes 40 ms, for the first HTTP client alone; those named by a test, each time."""
    if _trust_env and _named_authorities() != NAMED_AUTHORITIES:
        return _load_authorities()
    return _usual_authorities(_trust_env)


def _named_authorities() -> list[str | None]:
    return [os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")]


NAMED_AUTHORITIES = _named_authorities()


@cache
def _usual_authorities(trust_env: bool) -> ssl.SSLContext:
    return _load_authorities(_trust_env=trust_env)


def generate_private_key(public_exponent: int, key_size: int, *more: Any) -> rsa.RSAPrivateKey:
    """Return a key that was not returned before, made of primes of which each is used in several keys."""
    if (public_exponent, key_size) != (EXPONENT, BITS):
        return _generate(public_exponent, key_size, *more)
    if not _pairs:
        _find_primes()
    return _key(*_pairs.popleft())


def _find_primes() -> None:
    """Add primes, and all pairs with one of them."""
    made = [_generate(EXPONENT, BITS).private_numbers() for _ in range(PRIMES_AT_ONCE)]
    first, second = [each.p for each in made], [each.q for each in made]
    _pairs.extend(product(first, (*second, *_second_primes)))
    _pairs.extend(product(_first_primes, second))
    _first_primes.extend(first)
    _second_primes.extend(second)


def _key(p: int, q: int) -> rsa.RSAPrivateKey:
    d = pow(EXPONENT, -1, math.lcm(p - 1, q - 1))
    public = rsa.RSAPublicNumbers(EXPONENT, p * q)
    numbers = rsa.RSAPrivateNumbers(
        p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), pow(q, -1, p), public
    )
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


@pytest.fixture
def production_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encrypt private keys as in production, for tests that start commands on their own keys."""
    monkeypatch.setattr(encryption, "ROUNDS", ROUNDS)


def production_passwords() -> Passwords:
    """Return what hashes and verifies at the cost of production."""
    return Passwords(*PASSWORD_COST)
