"""The benchmarks measure what they say: each target has its case, reports are read rightly, the document is true."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))

import chains  # noqa: E402
import limits  # noqa: E402
import report  # noqa: E402
import seeding  # noqa: E402
import servers  # noqa: E402
from bench import CASES  # noqa: E402
from load import LoadFailed, parsed  # noqa: E402
from results import FOLDER, Results  # noqa: E402
from rounds import Bench, Rounds  # noqa: E402
from support.cheap import production_passwords  # noqa: E402
from targets import TARGETS, Target, Verdict  # noqa: E402

from issuer.authorize.code_store import CodeStore  # noqa: E402
from issuer.clients.store import ClientStore  # noqa: E402
from issuer.database.database import Database  # noqa: E402
from issuer.digests import digest  # noqa: E402
from issuer.tokens.family_store import FamilyStore  # noqa: E402

DOCUMENT = (ROOT / "docs" / "performance.md").read_text("utf-8")
NOT_SHOWN_YET = frozenset({"sign-in", "listening"})
"""Cases that were added after the results in the document; `make bench-full` adds theirs."""
WRK = """
Running 2s test @ http://127.0.0.1:8000/oauth2/token
  1 threads and 8 connections
  2000 requests in 2.00s, 1.58MB read
{"requests": 2000, "microseconds": 2004000, "p50": 4000.0, "p99": 9500.0, "refused": %d, "broken": 0}
"""


def shown_results() -> tuple[str, Results]:
    """Return the name of the results that the document says it shows, and them."""
    source = report.source_of(DOCUMENT)
    return source, Results.read((FOLDER / source).read_text("utf-8"))


def test_every_target_is_measured_by_exactly_one_case() -> None:
    rows = [row for case in CASES for row in case.rows]
    assert sorted(rows) == sorted(target.name for target in TARGETS)


def test_the_results_that_are_shown_hold_every_target_and_skipped_nothing() -> None:
    _, results = shown_results()
    assert results.full
    assert not results.skipped
    assert {case.name for case in CASES} - set(results.cases) <= NOT_SHOWN_YET
    for case in CASES:
        if case.name in results.cases:
            assert set(case.rows) == set(results.cases[case.name].rows)
            assert all(results.rows[row] is not None for row in case.rows)


def test_the_document_shows_the_stored_results_and_nothing_else() -> None:
    source, results = shown_results()
    assert report.filled(DOCUMENT, results, source) == DOCUMENT
    assert "Not measured." not in DOCUMENT
    assert set(report.parts(results)) == set(re.findall(r"<!-- ([a-z-]+) from ", DOCUMENT))


def test_a_case_that_the_document_has_no_place_for_is_added_to_it() -> None:
    source, results = shown_results()
    found = replace(results, cases={**results.cases, "sign-in": results.cases["tokens"]})
    written = report.filled(report.with_places(DOCUMENT, found, source), found, source)
    assert written.startswith(DOCUMENT.rstrip())
    assert "## Sign-in" in written
    assert set(report.parts(found)) == set(re.findall(r"<!-- ([a-z-]+) from ", written))
    assert report.with_places(written, found, source) == written


def test_every_plot_is_drawn_from_the_stored_results() -> None:
    _, results = shown_results()
    drawn = report.plots(results)
    assert drawn
    assert {path.name for path in report.DOCS.glob("performance-*.svg")} == set(drawn)
    for name, svg in drawn.items():
        assert (report.DOCS / name).read_text("utf-8") == svg
        assert f"({name})" in DOCUMENT


def test_results_are_the_same_after_writing_and_reading() -> None:
    _, results = shown_results()
    assert Results.read(results.written()).written() == results.written()
    assert list(report.parts(results)) == list(report.parts(Results.read(results.written())))


@pytest.mark.parametrize(
    ("target", "stretch", "measured", "verdict"),
    [
        (0.5, 0.6, 0.49, Verdict.MISSED),
        (0.5, 0.6, 0.5, Verdict.TARGET_MET),
        (0.5, 0.6, 0.61, Verdict.STRETCH_MET),
        (15, 6, 15.1, Verdict.MISSED),
        (15, 6, 15, Verdict.TARGET_MET),
        (15, 6, 5.9, Verdict.STRETCH_MET),
        (15, 6, None, Verdict.SKIPPED),
    ],
)
def test_a_value_is_judged_in_the_direction_of_its_target(
    target: float, stretch: float, measured: float | None, verdict: Verdict
) -> None:
    assert Target("some", "something", "", target, stretch).verdict(measured) is verdict


def test_a_ratio_is_the_median_of_the_ratios_within_each_round() -> None:
    rounds = Rounds(
        {"ours": [{"a": 1.0}, {"a": 4.0}, {"a": 30.0}], "limit": [{"a": 2.0}, {"a": 4.0}, {"a": 10.0}]}
    )
    assert rounds.ratio("ours", "limit", "a") == 1.0
    assert rounds.ratio("ours", "nobody", "a") is None
    assert rounds.medians()["ours"] == {"a": 4.0}


def test_contestants_take_turns(tmp_path: Path) -> None:
    seen: list[str] = []
    bench = Bench(tmp_path, rounds=2, seconds=1, full=False, largest=100, tell=lambda _: None)

    def turn(name: str) -> dict[str, float]:
        seen.append(name)
        return {"a": 1.0}

    turns = {name: partial(turn, name) for name in "ABC"}
    assert bench.taking_turns("some", turns).medians() == {name: {"a": 1.0} for name in "ABC"}
    assert "".join(seen) == "ABCABC"


def test_a_missing_program_is_named_with_its_package(tmp_path: Path) -> None:
    with pytest.raises(servers.Missing, match=r"no-such-program \(apt-get install its-package\)"):
        servers.program("no-such-program", "its-package")
    bench = Bench(tmp_path, rounds=1, seconds=1, full=False, largest=100, tell=lambda _: None)
    bench.skip("some case", servers.Missing("wrk (apt-get install wrk)"))
    assert bench.skipped == ["some case: wrk (apt-get install wrk) is not installed"]


def test_the_report_of_wrk_is_read() -> None:
    assert parsed(WRK % 0)["p99"] == 9500.0


@pytest.mark.parametrize("text", ["", "  2000 requests in 2.00s", WRK % 3])
def test_a_load_of_which_anything_was_refused_is_no_measurement(text: str) -> None:
    with pytest.raises(LoadFailed):
        parsed(text)


@pytest.mark.parametrize(
    ("line", "rate"),
    [("+F2:2:2048:4168.75:60893.75", 4168.75), ("+F2:3:2048:0.00025:0.00002", 4000.0)],
)
def test_the_rate_of_openssl_is_read_in_both_forms(line: str, rate: float) -> None:
    assert limits.signs_per_second(f"+DTP:2048:private:rsa:1\n{line}\n") == pytest.approx(rate)


def test_argon2_alone_has_the_parameters_of_the_issuer() -> None:
    ours = production_passwords().hash("violet otters juggle pancakes").rpartition("$")[0].rpartition("$")[0]
    its = limits.ARGON2.hash("violet otters juggle pancakes").rpartition("$")[0].rpartition("$")[0]
    assert ours == its


class Rotating(BaseHTTPRequestHandler):
    """A token endpoint that takes each token once, in order."""

    protocol_version = "HTTP/1.1"
    expected: set[str]
    lock = threading.Lock()

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        (token,) = form["refresh_token"]
        chain, number = token.split(".")
        after = f"{chain}.{int(number) + 1}"
        with self.lock:
            good = token in self.expected
            self.expected.discard(token)
            self.expected.add(after)
        body = json.dumps({"refresh_token": after}).encode()
        self.send_response(200 if good else 400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def rotating(*tokens: str) -> Iterator[str]:
    Rotating.expected = set(tokens)
    with ThreadingHTTPServer(("127.0.0.1", 0), Rotating) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_chain_presents_each_refresh_token_once_and_continues_with_the_next() -> None:
    with rotating("a.0", "b.0", "c.0") as url:
        plan = {"url": url, "path": "/oauth2/token", "client_id": "first-party"}
        driven = [chains.Chains(plan, tokens) for tokens in (["a.0", "c.0"], ["b.0"])]
        took, refused, _ = chains.refresh(driven, 0.05)
        again, refused_again, _ = chains.refresh(driven, 0.0)
        for chain in driven:
            chain.socket.close()
    assert refused == refused_again == 0
    assert len(again) == 2
    numbers = [[int(token.split(".")[1]) for token in each.tokens] for each in driven]
    assert max(numbers[0]) - min(numbers[0]) <= 1
    assert sum(map(sum, numbers)) == len(took) + len(again)


def test_a_chain_that_is_refused_is_counted() -> None:
    with rotating("a.0") as url:
        plan = {"url": url, "path": "/oauth2/token", "client_id": "first-party"}
        driven = [chains.Chains(plan, ["a.7"])]
        took, refused, _ = chains.refresh(driven, 0.05)
        driven[0].socket.close()
    assert (len(took), refused) == (1, 1)


def test_the_processor_time_of_a_server_is_that_of_all_its_processes_and_of_those_that_ended() -> None:
    here = servers.Running("", os.getpid())
    before = here.cpu_seconds()
    burning = "import time\nwhile time.process_time() < 0.2: pass\ninput()"
    with subprocess.Popen([sys.executable, "-c", burning], stdin=subprocess.PIPE) as child:
        assert child.pid in here.pids
        child.communicate(b"\n")
    assert child.pid not in here.pids
    assert here.cpu_seconds() - before >= 0.15  # the kernel counts ticks, rounded for each process


def test_the_issuer_can_read_seeded_rows(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/issuer.db")
    database.migrate()
    tokens = list[str]()
    asked = seeding.Asked(
        "a client", "https://app.example/callback", "c" * 43, frozenset({"openid"}), ("aud",)
    )
    seeding.add_accounts(database, range(2), "a hash")
    seeding.add_clients(database, range(1), b"digest")
    seeding.add_families(database, range(2), 2, tokens)
    seeding.add_browser_sessions(database, range(2))
    codes = CodeStore(database)
    for number, code in enumerate(seeding.add_codes(database, 2, 2, asked)):
        stored = codes.find(code)
        assert stored is not None
        assert stored.user_id == seeding.user_id(number)
        assert codes.use(stored, stored.auth_time, "a session")
    assert ClientStore(database).by_id(seeding.client_id(0)) is not None
    found = [FamilyStore(database).find(digest(token)) for token in tokens]
    assert [each.user.username for each in found if each] == [seeding.username(number) for number in range(2)]
    database.close()
