"""Tests without their component: skipped with the line that installs it, failed in CI."""

import re
from pathlib import Path

import pytest
from support import components
from support.components import COMPONENTS, Component, require

TESTS = Path(__file__).parent
CI = (TESTS.parent / ".ci" / "run").read_text("utf-8")
CONTRIBUTING = (TESTS.parent / "CONTRIBUTING.md").read_text("utf-8")
LOOKUPS = ("shutil.which(", "importorskip(")
ABSENT = Component("absent-package", ("no-such-program",), ("no/such/file", "/no/such/*/file"))


def outcome(monkeypatch: pytest.MonkeyPatch, ci: str) -> tuple[type[BaseException], str]:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(BaseException, match="NOT tested") as raised:
        require("absent")
    return raised.type, str(raised.value)


def test_without_its_component_a_test_is_skipped_and_in_ci_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "COMPONENTS", {"absent": ABSENT})
    text = (
        "absent was NOT tested: no-such-program, no/such/file, /no/such/*/file missing "
        "(apt-get install absent-package && make interop)"
    )
    assert outcome(monkeypatch, "") == (pytest.skip.Exception, text)
    assert outcome(monkeypatch, "true") == (pytest.fail.Exception, text)


@pytest.mark.parametrize("name", COMPONENTS)
def test_ci_installs_every_component_and_so_do_the_lines_for_contributors(name: str) -> None:
    component = COMPONENTS[name]
    assert component.install
    for package in component.packages.split():
        assert re.search(rf"^needs \S+( \S+)* {package}( |$)", CI, re.MULTILINE), package
        assert re.search(rf"^(\$ apt-get install|   ) .*\b{package}\b", CONTRIBUTING, re.MULTILINE), package
    if components.FETCH in component.install:
        assert re.search(rf"^{components.FETCH}$", CI, re.MULTILINE)
        assert f"$ {components.FETCH} " in CONTRIBUTING


def test_every_component_is_required_by_some_test_and_none_is_looked_up_elsewhere() -> None:
    texts = {path: path.read_text("utf-8") for path in TESTS.rglob("*.py") if path != Path(__file__)}
    table = texts.pop(Path(components.__file__))
    assert LOOKUPS[0] in table
    assert [path.name for path, text in texts.items() for each in LOOKUPS if each in text] == []
    everything = "\n".join(texts.values())
    assert [name for name in COMPONENTS if f'"{name}"' not in everything] == []
