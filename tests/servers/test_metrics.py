"""Metrics of several workers: sums that stay when a worker ends."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
from support.prometheus import Samples
from support.servers import PATIENCE_SECONDS, Installation, Server, eventually, is_running

PASSWORD = "violet otters juggle pancakes"


def samples_of(installation: Installation) -> Samples:
    return Samples(installation.http.get(f"{installation.url}/metrics").raise_for_status().text)


def directories(installation: Installation) -> set[Path]:
    """Return what servers of the installation count in."""
    return set(installation.temporary.glob("issuer-*"))


def running(server: Server) -> list[int]:
    return [pid for pid in server.worker_pids if is_running(pid)]


def spread(installation: Installation, server: Server) -> None:
    """Let each worker issue, refuse and serve what the test counts, and many requests come to whichever is free."""
    for pid in running(server):
        with server.only(pid):
            for _ in range(3):
                installation.token()
            etag = installation.key_set().headers["etag"]
            installation.http.get(
                f"{installation.url}/.well-known/jwks.json", headers={"If-None-Match": etag}
            )
            installation.http.post(
                f"{installation.url}/oauth2/token",
                auth=("nobody", "a wrong secret"),
                data={"grant_type": "client_credentials"},
            )
            assert installation.log_in("nobody", PASSWORD).status_code == httpx2.codes.UNAUTHORIZED
    with ThreadPoolExecutor(4) as clients:
        list(clients.map(lambda _: installation.token(), range(40)))


COUNTED = {
    ("issuer_tokens_issued_total", "client_credentials"): 46,
    ("issuer_requests_refused_total", "invalid_client"): 2,
    ("issuer_requests_refused_total", "invalid_grant"): 2,
    ("issuer_jwks_requests_total", "200"): 2,
    ("issuer_jwks_requests_total", "304"): 2,
}
_LABELS = {"issuer_tokens_issued_total": "grant", "issuer_requests_refused_total": "reason"}


def counted(samples: Samples) -> dict[tuple[str, str], float]:
    return {
        (name, value): samples.total(name, **{_LABELS.get(name, "status"): value}) for name, value in COUNTED
    }


def test_every_worker_reports_the_same_sum_including_the_counts_of_killed_workers(
    initialized: Installation,
) -> None:
    assert initialized.machine
    server = initialized.serve(workers=2).until_ready()
    [directory] = directories(initialized)
    assert directory.stat().st_mode & 0o777 == 0o700
    spread(initialized, server)
    first, second = running(server)
    for pid in (first, second):
        with server.only(pid):
            assert counted(samples_of(initialized)) == COUNTED
    gauges = {path.name for path in directory.glob("gauge_*.db")}
    assert {int(name.removesuffix(".db").rpartition("_")[2]) for name in gauges} == {first, second}
    os.kill(first, signal.SIGKILL)
    eventually(lambda: len(server.worker_pids) == 3, "another worker starts")
    eventually(lambda: not list(directory.glob(f"gauge_*_{first}.db")), "its gauges go")
    third = server.worker_pids[-1]
    eventually(lambda: server.output.count("Application startup complete") == 3, "it is ready")
    for pid in (second, third):
        with server.only(pid):
            assert counted(samples_of(initialized)) == COUNTED
            assert samples_of(initialized).total("issuer_hashing_jobs") == 0
    with server.only(third):
        initialized.token()
    with server.only(second):
        assert samples_of(initialized).total("issuer_tokens_issued_total") == 47
    server.stop()
    assert not directories(initialized)


def test_the_directory_goes_with_a_main_process_that_is_killed(initialized: Installation) -> None:
    server = initialized.serve(workers=2).until_ready()
    assert directories(initialized)
    server.kill()
    eventually(lambda: server.has_ended() and not directories(initialized), "nothing is left")


def test_operators_keep_the_directory_that_they_name(initialized: Installation, tmp_path: Path) -> None:
    own = tmp_path / "own"
    initialized.settings["PROMETHEUS_MULTIPROC_DIR"] = str(own)
    missing = initialized.serve()
    assert missing.process.wait(PATIENCE_SECONDS) == 1
    assert f"PROMETHEUS_MULTIPROC_DIR: no such directory: {own}" in missing.output
    own.mkdir()
    (own / "of an operator").touch()
    server = initialized.serve().until_ready()
    initialized.key_set()
    server.stop()
    assert (own / "of an operator").exists()
    assert list(own.glob("counter_*.db"))
    assert not directories(initialized)
