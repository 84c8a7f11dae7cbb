"""The census of verifiers, with two workers, the example service and foreign verifiers."""

from typing import Any

import httpx2
import pytest
from support.commands import run, run_json
from support.servers import Installation, eventually

FOREIGN = {"User-Agent": "Python-urllib/3.13"}


def rows(installation: Installation) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in run_json(installation, "keys", "verifiers")["verifiers"]}


def fetch(installation: Installation, **headers: str) -> httpx2.Response:
    return installation.http.get(f"{installation.url}/.well-known/jwks.json", headers={**FOREIGN, **headers})


def test_requests_at_several_workers_appear_as_one_verifier_each(initialized: Installation) -> None:
    # A verifier listens if it keeps keys for longer than a request may wait.
    initialized.settings |= {"VERIFIER_NAME": "billing", "VERIFIER_TTL_FLOOR": "5m"}
    server = initialized.serve(workers=2).until_ready()
    initialized.serve_service().until_ready()

    def listens() -> bool:
        return initialized.http.get(f"{initialized.url}/metrics").text.count("issuer_jwks_listeners 1.0") == 1

    eventually(listens, "the service listens")
    etag = fetch(initialized).headers["etag"]
    for _ in range(8):  # new connections, so that both workers are asked
        assert fetch(initialized, **{"If-None-Match": etag}).status_code == 304
    server.stop()  # which saves what was not yet
    found = rows(initialized)
    assert found.keys() >= {"billing", FOREIGN["User-Agent"]}
    assert all(each["knows_next"] == "yes" for each in found.values())
    assert [found["billing"][name] for name in ("address", "instances")] == ["127.0.0.1", 1]
    assert [found[name]["listening"] for name in ("billing", FOREIGN["User-Agent"])] == [True, False]
    printed = run(initialized, "keys", "verifiers").out
    assert "2 of 2 verifiers seen in 24 h know the next key" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_a_verifier_that_has_not_asked_since_the_rotation_is_named_before_the_next_one(
    initialized: Installation,
) -> None:
    initialized.serve(workers=2).until_ready()
    fetch(initialized)
    eventually(lambda: rows(initialized) or None, "the verifier is in the census")
    dry = run_json(initialized, "keys", "rotate", "--dry-run")
    assert dry["verifiers"]["knows_next"] == {"no": 0, "unknown": 1, "yes": 0}
    done = run_json(initialized, "keys", "rotate", "--force", "--reason", "a test")
    assert "0 of 1 verifier seen in 24 h knows the new key; for 1 this cannot be told" in done["message"]
    planned = run_json(initialized, "keys", "plan")
    assert planned["verifiers"]["lacking"] == ["Python-urllib/3.13 at 127.0.0.1"]
    assert "Python-urllib/3.13 at 127.0.0.1 does not, last asked" in run(initialized, "keys", "plan").out

    def knows_it() -> bool:  # once the worker that answers has read the key ring again
        fetch(initialized, **{"If-None-Match": '"older"'})
        return bool(rows(initialized)[FOREIGN["User-Agent"]]["knows_next"] == "yes")

    eventually(knows_it, "the verifier has the new standby")


@pytest.mark.parametrize(("census", "says"), [("on", "hides who is behind it"), ("off", "the census is off")])
def test_an_empty_census_says_why(initialized: Installation, census: str, says: str) -> None:
    initialized.settings["ISSUER_CENSUS"] = census
    if census == "off":
        server = initialized.serve().until_ready()
        fetch(initialized)
        server.stop()
    assert says in " ".join(run(initialized, "keys", "verifiers").out.split())
    assert run_json(initialized, "keys", "verifiers")["verifiers"] == []
