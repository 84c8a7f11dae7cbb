"""Owns the main story on a database of the first release: what `issuer demo --once` plays, on real servers."""

import subprocess

import pytest
from support.first_release import PASSWORD, FirstRelease
from support.servers import PASSPHRASE, QUICK, RULES, Installation

from issuer.cli import demo_scenario
from issuer.clock import system_clock


class Stage:
    """What the story is played on: an installation with both servers running."""

    def __init__(self, site: Installation) -> None:
        self._site = site
        self._servers = {"issuer": site.serve().until_ready(), "service": site.serve_service().until_ready()}

    def command(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        done = self._site.command(*arguments, stdin=stdin)
        return subprocess.CompletedProcess(arguments, done.code, done.out, done.err)

    def stop(self, name: str) -> None:
        self._servers[name].stop()


def test_the_story_comes_out_on_what_the_first_release_left(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = installation
    site.settings |= {**QUICK, "ISSUER_KEYS_PASSPHRASE": PASSPHRASE}
    first = FirstRelease(site.url, site.service_url, system_clock(), PASSPHRASE)
    first.make(f"sqlite:///{site.folder}/issuer.db", site.keys)
    before = site.key_files()
    stage = Stage(site)
    assert site.key_files() == before
    assert site.call_service(first.access_token).json() == {"message": "Hello, bob"}
    assert site.log_in("bob", PASSWORD).status_code == 200
    monkeypatch.setattr(demo_scenario, "OUTAGE_SECONDS", 1)
    demo_scenario.play(stage, site.url, site.service_url, {**RULES, **QUICK})
