"""What is written and drawn from the code is up to date: the reference, pictures, and numbers in other pages."""

import re
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest
from support.documents import script

from issuer.accounts.hashing_pool import QUEUE_LIMIT
from issuer.clock import duration
from issuer.settings.settings import Settings
from issuer.throttling import limits
from verifier_example import settings as example_settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    return script("reference")


def test_the_reference_is_up_to_date(reference: ModuleType) -> None:
    page = (ROOT / "docs" / "reference.md").read_text("utf-8")
    assert page == reference.page(), "run: python docs/reference.py --write"


def test_each_setting_has_a_meaning(reference: ModuleType) -> None:
    for settings in (Settings, example_settings.Settings):
        assert all(meaning for *_, meaning in reference.settings(settings))


def test_the_readme_and_the_reference_describe_settings_alike(reference: ModuleType) -> None:
    documented = [line for line in README.splitlines() if line.startswith("| `ISSUER_")]
    expected = {
        f"| {name} | {default} | {meaning} |" for name, _, default, meaning in reference.settings(Settings)
    }
    assert documented
    assert set(documented) <= expected


def test_the_page_for_clients_lists_each_error(reference: ModuleType) -> None:
    text = (ROOT / "docs" / "clients.md").read_text("utf-8").partition("\n## Errors\n")[2]
    documented = re.findall(r"^\| `(\w+)` \| (\d+) \|", text, re.MULTILINE)
    assert sorted(documented) == sorted((error.strip("`"), status) for error, status, _ in reference.errors())


@pytest.mark.parametrize("name", ["key-life.svg", "rotation-cache.svg"])
def test_a_picture_is_up_to_date(name: str) -> None:
    drawn = script("pictures").pictures()[name]
    assert (ROOT / "docs" / name).read_text("utf-8") == drawn, "run: python docs/pictures.py --write"


SPANS = timedelta(seconds=10), timedelta(minutes=18)
LIMITS = {
    "account": limits.ACCOUNT,
    "known device": limits.DEVICE,
    "address, wrong passwords": limits.ADDRESS,
    "address, wrong secrets, unknown refresh tokens": limits.SECRET,
    "address, accounts made": limits.REGISTRATION,
    "IPv6 network, wrong passwords": limits.ADDRESS.of_network,
    "IPv6 network, wrong secrets, unknown refresh tokens": limits.SECRET.of_network,
    "IPv6 network, accounts made": limits.REGISTRATION.of_network,
}


def test_the_limits_on_guessing_are_those_in_force() -> None:
    text = (ROOT / "docs" / "security.md").read_text("utf-8")
    for name, limit in LIMITS.items():
        hours, minutes = divmod(int(limit.forgotten_after.total_seconds()) // 60, 60)
        forgotten = " ".join(filter(None, [f"{hours}h" if hours else "", f"{minutes}m" if minutes else ""]))
        assert f"| {name} | {limit.free} | {duration(limit.longest)} | {forgotten} |" in text
        assert limit.first == timedelta(seconds=1)
    text = " ".join(text.split())
    assert f"known for {limits.DEVICE_MEMORY.days} days" in text
    assert f"{limits.LOG_IN.burst} times at once and {limits.LOG_IN.per_second:g} times a second" in text
    assert f"more than {QUEUE_LIMIT} addresses" in text


def test_the_page_has_the_number_of_guesses_that_the_limits_allow() -> None:
    text = " ".join((ROOT / "docs" / "security.md").read_text("utf-8").split())
    waits = [limits.ACCOUNT.wait(failures) for failures in range(100)]
    within = {
        span: sum(sum(waits[:number], timedelta(0)) <= span for number in range(1, 100)) for span in SPANS
    }
    assert f"an attacker gets {within[SPANS[0]]} guesses in the first ten seconds" in text
    assert f"{within[SPANS[1]]} in the first 18 minutes" in text
    assert timedelta(hours=1) // limits.ACCOUNT.longest == 4  # "then four an hour"
