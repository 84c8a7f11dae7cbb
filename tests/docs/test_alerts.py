"""Alert rules: promtool accepts them, they fire in the intended cases, and use existing metrics."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from support.commands import all_commands
from support.components import require

ROOT = Path(__file__).parents[2]
RULES = ROOT / "docs" / "alerts.yml"
HISTORIES = Path(__file__).with_name("alerts_test.yml")
ALERTS = [rule for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]]


def promtool(*arguments: str) -> None:
    require("promtool")
    done = subprocess.run(
        ["promtool", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.processes
def test_promtool_accepts_the_rules() -> None:
    promtool("check", "rules", str(RULES))


@pytest.mark.processes
def test_each_alert_fires_when_its_thing_happens_and_none_on_a_day_like_any_other() -> None:
    promtool("test", "rules", str(HISTORIES))


def test_each_alert_is_made_to_fire_by_some_history() -> None:
    fired = set(re.findall(r'alertname="(\w+)"\}\'', HISTORIES.read_text("utf-8")))
    assert fired == {rule["alert"] for rule in ALERTS}


def test_alerts_use_metrics_and_labels_that_are_documented() -> None:
    document = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|", document, re.MULTILINE)
    metrics = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    for rule in ALERTS:
        asked = re.findall(r"((?:issuer|verifier)_\w+?)(?:_bucket)?\b(?:\{([^}]*)\})?", rule["expr"])
        assert asked, rule
        for name, matchers in asked:
            assert set(re.findall(r"(\w+)=", matchers)) <= metrics[name], rule


def test_each_alert_has_a_severity_and_names_a_command_that_exists() -> None:
    commands = set(all_commands())
    for rule in ALERTS:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["for"]
        following = rule["annotations"]["next"]
        assert following in commands or following.startswith("curl -fsS "), following
