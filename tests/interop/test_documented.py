"""Owns that docs/verifying.md shows what the interoperability tests run, word for word, and tells true defaults."""

import inspect
import re
from pathlib import Path

import jwt
import pytest
from fetched import HERE, require

PAGE = (HERE.parents[1] / "docs" / "verifying.md").read_text("utf-8")
PROGRAMS = {
    "python": HERE / "pyjwt_verifier.py",
    "javascript": HERE / "jose" / "verify.mjs",
    "go": HERE / "go" / "main.go",
}


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def shown(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("language", PROGRAMS)
def test_what_is_shown_is_what_is_run(language: str) -> None:
    (block,) = shown(language)
    program = "\n".join(lines(PROGRAMS[language].read_text("utf-8")))
    assert "\n".join(lines(block)) in program


def section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}")[2].partition("\n## ")[0]


def test_the_defaults_that_are_told_of_pyjwt_are_the_librarys() -> None:
    defaults = {name: each.default for name, each in inspect.signature(jwt.PyJWKClient).parameters.items()}
    assert (defaults["lifespan"], defaults["cooldown_duration"], defaults["timeout"]) == (300, 30, 30)
    assert defaults["cache_keys"] is False
    assert f"| PyJWT {jwt.__version__.rpartition('.')[0]} |" in PAGE


def test_the_defaults_that_are_told_of_jose_are_the_librarys() -> None:
    require("jose")
    package = HERE / "jose" / "node_modules" / "jose"
    source = (package / "dist" / "webapi" / "jwks" / "remote.js").read_text("utf-8")
    for default in ("timeoutOption : 5e3", "opts.cooldownDuration, 3e4", "opts.cacheMaxAge, 6e5"):
        assert default in source  # 5 s, 30 s and 10 minutes, in milliseconds
    assert 'redirect: "manual"' in source
    version = re.search(r'"version": "(\d+\.\d+)', (package / "package.json").read_text("utf-8"))
    assert version
    assert f"| jose {version[1]} |" in PAGE


def test_the_version_of_go_oidc_is_the_one_that_is_run() -> None:
    version = re.search(r"go-oidc/v3 v(\d+\.\d+)", (HERE / "go" / "go.mod").read_text("utf-8"))
    assert version
    assert f"| go-oidc {version[1]} |" in PAGE


@pytest.mark.parametrize("stack", ["Spring Security", "Envoy", "nginx", "Apache"])
def test_what_cannot_run_here_names_its_manual_and_checks_issuer_and_audience(stack: str) -> None:
    text = section(stack)
    assert text.lstrip().startswith("From the ")
    assert "https://issuer.example" in text
    assert "api" in text
    assert "at+jwt" in text or "`typ`" in text


def test_the_page_is_where_a_reader_looks_for_it() -> None:
    readme = Path(HERE.parents[1] / "README.md").read_text("utf-8")
    assert (
        "(docs/verifying.md)"
        in readme.partition("\n## Verify tokens in your own service\n")[2].partition("\n## ")[0]
    )
