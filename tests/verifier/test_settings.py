"""The settings and command-line options of the example service."""

import pytest

from verifier_example.__main__ import main as serve
from verifier_example.app import build_verifier
from verifier_example.settings import Settings


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ISSUER": "https://issuer.example",
        "JWKS_URL": "",
        "TTL_FLOOR": "2s",
        "COOLDOWN": "0.5",
        "MAX_STALE": "24h",
        "UNRELATED": "1",
    }.items():
        monkeypatch.setenv(f"VERIFIER_{name}", value)
    settings = Settings(_env_file=None)
    assert settings.issuer == "https://issuer.example"
    assert settings.jwks_url is None
    assert (settings.ttl_floor, settings.cooldown, settings.max_stale) == (2, 0.5, 86400)
    timings = build_verifier(settings).cache.timings
    assert (timings.ttl_floor, timings.cooldown, timings.cooldown_empty) == (2, 0.5, 0.5)


@pytest.mark.parametrize("value", ["soon", "-1", "5 m", "1w", "nan", "inf"])
def test_a_value_that_is_not_a_duration_is_rejected(value: str) -> None:
    with pytest.raises(ValueError, match="ttl_floor"):
        Settings(_env_file=None, ttl_floor=value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "option",
    [["--proxy", "x"], ["--proxy", "10.0.0.1/8"], ["--max-connections", "-1"], ["--max-head", "5"]],
)
def test_an_unusable_option_is_rejected_before_the_server_starts(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        serve(option)
    assert option[0] in capsys.readouterr().err
