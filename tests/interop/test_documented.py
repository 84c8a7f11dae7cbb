"""docs/verifying.md shows the code and configurations that the interoperability tests run, and their results."""

import inspect
import re
from pathlib import Path

import jwt
import pytest
from interop.invalid_tokens import ACCEPTED, AFTER_THE_CACHE, FIXED_CACHE, INVALID
from interop.verifiers import STACKS
from support.components import INTEROP, require

PAGE = (INTEROP.parents[1] / "docs" / "verifying.md").read_text("utf-8")
PROGRAMS = {
    "PyJWT": INTEROP / "pyjwt_verifier.py",
    "joserfc": INTEROP / "joserfc_verifier.py",
    "jose": INTEROP / "jose" / "verify.mjs",
    "go-oidc": INTEROP / "go" / "main.go",
    "Spring Security": INTEROP / "spring" / "src" / "main" / "java" / "Verify.java",
    "Envoy": INTEROP / "envoy" / "envoy.yaml",
    "nginx": INTEROP / "nginx" / "nginx.conf",
    "mod_oauth2": INTEROP / "apache" / "mod_oauth2.conf",
    "mod_auth_openidc": INTEROP / "apache" / "mod_auth_openidc.conf",
}
"""By the headings of the page."""


def lines(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def section(heading: str) -> str:
    (found,) = re.findall(rf"^## {heading}(?: \([^)]*\))?$(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return str(found)


def test_every_tested_stack_is_documented() -> None:
    assert set(STACKS) == set(PROGRAMS)


@pytest.mark.parametrize("stack", PROGRAMS)
def test_the_documented_code_is_the_tested_code(stack: str) -> None:
    run, _, manual = section(stack).partition("From the manual")
    (block,) = re.findall(r"```\w+\n(.*?)```", run, re.DOTALL)
    assert lines(block) in lines(PROGRAMS[stack].read_text("utf-8"))
    assert ("not run here" in manual) == ("```" in manual)


def test_the_documented_results_are_the_results_of_the_tests() -> None:
    rows = [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in section("Comparison of accepted tokens").splitlines()
        if line.startswith("|")
    ]
    (_, *stacks), _, *tokens = rows
    assert stacks == list(ACCEPTED) == list(STACKS)
    assert [token for token, *_ in tokens] == [*INVALID, *AFTER_THE_CACHE]
    for token, *cells in tokens:
        for stack, cell in zip(stacks, cells, strict=True):
            passes = "**yes**" if token in ACCEPTED[stack] else "no"
            run = token not in AFTER_THE_CACHE or stack not in FIXED_CACHE
            assert cell == (passes if run else "not run"), (token, stack)


def test_the_documented_defaults_of_pyjwt_are_right() -> None:
    defaults = {name: each.default for name, each in inspect.signature(jwt.PyJWKClient).parameters.items()}
    assert (defaults["lifespan"], defaults["cooldown_duration"], defaults["timeout"]) == (300, 30, 30)
    assert defaults["cache_keys"] is False
    assert f"| PyJWT {jwt.__version__.rpartition('.')[0]} |" in PAGE


def test_the_documented_defaults_of_jose_are_right() -> None:
    require("jose")
    package = INTEROP / "jose" / "node_modules" / "jose"
    source = (package / "dist" / "webapi" / "jwks" / "remote.js").read_text("utf-8")
    for default in ("timeoutOption : 5e3", "opts.cooldownDuration, 3e4", "opts.cacheMaxAge, 6e5"):
        assert default in source  # 5 s, 30 s and 10 minutes, in milliseconds
    assert 'redirect: "manual"' in source
    version = re.search(r'"version": "(\d+\.\d+)', (package / "package.json").read_text("utf-8"))
    assert version
    assert f"| jose {version[1]} |" in PAGE


def test_the_documented_version_of_go_oidc_is_the_tested_one() -> None:
    version = re.search(r"go-oidc/v3 v(\d+\.\d+)", (INTEROP / "go" / "go.mod").read_text("utf-8"))
    assert version
    assert f"| go-oidc {version[1]} |" in PAGE


def test_the_documented_versions_of_spring_security_and_envoy_are_the_tested_ones() -> None:
    spring = re.search(
        r"<version>(7\.\d+)\.\d+</version>", (INTEROP / "spring" / "pom.xml").read_text("utf-8")
    )
    envoy = re.search(r"==(\d+\.\d+)", (INTEROP / "envoy" / "requirements.txt").read_text("utf-8"))
    assert spring
    assert envoy
    assert f"| Spring Security {spring[1]} |" in PAGE
    assert f"| Envoy {envoy[1]} |" in PAGE


def test_the_readme_links_to_the_page() -> None:
    readme = Path(INTEROP.parents[1] / "README.md").read_text("utf-8")
    assert (
        "(docs/verifying.md)" in readme.partition("\n## Protect a FastAPI service\n")[2].partition("\n## ")[0]
    )
