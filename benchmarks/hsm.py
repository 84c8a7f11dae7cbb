"""What a token costs: signatures a second through the PKCS#11 signer beside the PEM signer, in one run, as ratios.

The token is SoftHSM2 in a temporary folder, whose arithmetic is this machine's: of an HSM only the HSM can tell.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from issuer.signing.algorithms import ALGORITHMS
from issuer.signing.pem import PemSigner
from issuer.signing.pem_directory import PemDirectory
from issuer.signing.pkcs11.session import Token
from issuer.signing.pkcs11.signer import Pkcs11Signer
from issuer.signing.signer import Signer

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "2468013579"
ROUNDS = 7
SIGNATURES = 300
THREADS = 8
DATA = b"x" * 400


def token(folder: Path) -> Token:
    """Return a token of SoftHSM2, made in `folder`."""
    conf = folder / "softhsm2.conf"
    (folder / "tokens").mkdir()
    conf.write_text(f"directories.tokendir = {folder / 'tokens'}\n")
    os.environ["SOFTHSM2_CONF"] = str(conf)
    command = ["softhsm2-util", "--init-token", "--free", "--label", "bench", "--so-pin", PIN, "--pin", PIN]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - made up above
    return Token(MODULE, "bench", lambda: PIN)


def signatures_a_second(signer: Signer, kid: str, threads: int) -> float:
    """Return how many signatures a second so many threads get, all together."""
    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        list(pool.map(lambda _: signer.sign(kid, DATA), range(SIGNATURES)))
        return SIGNATURES / (time.perf_counter() - began)


def main() -> None:
    """Sign with each algorithm in both places, alternating, and print medians."""
    table = Table(box=None)
    for name in ("algorithm", "threads", "PEM, 1/s", "PKCS#11, 1/s", "ratio"):
        table.add_column(name, justify="left" if name == "algorithm" else "right")
    with tempfile.TemporaryDirectory() as folder:
        places: list[Signer] = [
            PemSigner(PemDirectory(Path(folder) / "keys"), lambda: PIN),
            Pkcs11Signer(token(Path(folder))),
        ]
        for alg in ALGORITHMS:
            kids = [place.generate(alg).kid for place in places]
            for threads in (1, THREADS):
                rounds = [
                    [
                        signatures_a_second(place, kid, threads)
                        for place, kid in zip(places, kids, strict=True)
                    ]
                    for _ in range(ROUNDS)
                ]
                pem, hsm = (statistics.median(each) for each in zip(*rounds, strict=True))
                table.add_row(alg, str(threads), f"{pem:.0f}", f"{hsm:.0f}", f"{hsm / pem:.2f}")
                sys.stderr.write(".")
    sys.stderr.write("\n")
    Console().print(table)


if __name__ == "__main__":
    main()
