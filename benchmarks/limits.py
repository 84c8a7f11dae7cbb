"""The limits of the hardware: the cost of a signature, a verification, a password hash and a durable write alone.

`servers` starts the programs that are compared with them.
"""

import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import argon2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from rounds import Sample
from servers import program

SIGNATURES = 400
HASHES = 120
WRITES = 200
ARGON2 = argon2.PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
"""As `issuer.accounts.passwords` has it; a test compares them."""


def openssl_signs(seconds: int) -> Sample:
    """Return how many RSA-2048 signatures a second openssl makes on one core, by the clock as servers are."""
    arguments = ["speed", "-elapsed", "-mr", "-seconds", str(seconds), "rsa2048"]
    done = subprocess.run(  # noqa: S603 - made up above
        [program("openssl", "openssl"), *arguments], capture_output=True, text=True, check=True
    )
    return {"per_second": signs_per_second(done.stdout)}


def signs_per_second(report: str) -> float:
    """Return the rate of signing in a machine-readable report of `openssl speed`."""
    found = re.search(r"^\+F2:\d+:2048:([0-9.e+-]+):", report, re.MULTILINE)
    if found is None:
        raise ValueError(f"openssl printed no rate of RSA-2048:\n{report}")
    number = float(found[1])
    return 1 / number if number < 1 else number  # some versions print seconds for one, others how many in one


def raw_sign(key: rsa.RSAPrivateKey) -> Sample:
    """Return the CPU of one RS256 signature by the library that the issuer uses."""
    data = b"x" * 400
    began = time.thread_time()
    for _ in range(SIGNATURES):
        key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    return {"cpu_us": (time.thread_time() - began) / SIGNATURES * 1e6}


def raw_argon2(threads: int) -> Sample:
    """Return how many passwords a second so many threads verify, with nothing around it."""
    kept = ARGON2.hash("violet otters juggle pancakes")
    with ThreadPoolExecutor(threads) as pool:
        began, before = time.perf_counter(), time.process_time()
        list(pool.map(lambda _: ARGON2.verify(kept, "violet otters juggle pancakes"), range(HASHES)))
        took, spent = time.perf_counter() - began, time.process_time() - before
        return {"per_second": HASHES / took, "cpu_us": spent / HASHES * 1e6}


def durable_writes(folder: Path) -> Sample:
    """Return how many writes of a page a second reach the disk, one after the other."""
    with (folder / "page").open("wb", buffering=0) as page:
        began = time.perf_counter()
        for _ in range(WRITES):
            page.seek(0)
            page.write(b"\0" * 4096)
            os.fdatasync(page.fileno())
        return {"per_second": WRITES / (time.perf_counter() - began)}
