"""Tests that start processes are marked, so that `make check` can leave them out; keys of tests are real keys."""

import os
import subprocess
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from support import cheap


@pytest.mark.parametrize("start", [lambda: subprocess.run(["true"], check=True), os.fork])
def test_a_test_without_the_marker_can_start_no_process(start: Callable[[], object]) -> None:
    with pytest.raises(AssertionError, match="mark it with"):
        start()


@pytest.mark.processes
def test_a_test_with_the_marker_can() -> None:
    assert subprocess.run(["true"], check=True).returncode == 0


def test_keys_of_tests_differ_and_are_of_the_size_asked_for() -> None:
    keys = [
        cheap.generate_private_key(cheap.EXPONENT, cheap.BITS) for _ in range(2 * cheap.PRIMES_AT_ONCE**2)
    ]
    assert {key.key_size for key in keys} == {cheap.BITS}
    assert len({key.public_key().public_numbers().n for key in keys}) == len(keys)
    for key in keys[:: len(keys) // 8]:
        signature = key.sign(b"data", padding.PKCS1v15(), hashes.SHA256())
        key.public_key().verify(signature, b"data", padding.PKCS1v15(), hashes.SHA256())
    assert rsa.generate_private_key(3, 2048).public_key().public_numbers().e == 3
