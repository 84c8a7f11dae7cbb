"""`issuer token inspect` against a running issuer: verdicts, exit codes, and what it never prints."""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.servers import PASSPHRASE, Done, Installation, free_port

EVIL = "\x1b]0;owned\x07\x1b[2J\u202e\x9b31m\ud800"


@pytest.fixture(scope="module")
def site(initialized_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An issuer that runs, with a client."""
    folder = shutil.copytree(initialized_folder, tmp_path_factory.mktemp("inspected") / "initialized")
    with Installation(folder, ISSUER_KEYS_PASSPHRASE=PASSPHRASE) as installation:
        installation.serve().until_ready()
        yield installation


def inspected(site: Installation, *arguments: str, stdin: str = "", **settings: str) -> Done:
    """Run the command; fail if it prints the token, or any character that a terminal obeys."""
    done = site.command("token", "inspect", *arguments, stdin=stdin, **settings)
    printed = done.out + done.err
    for part in " ".join([stdin, *arguments]).replace(".", " ").split():
        assert len(part) < 100 or part not in printed
    assert printed.replace("\n", "").isprintable()
    return done


def part(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def last(done: Done) -> str:
    return done.out.splitlines()[-1]


def test_a_valid_token_is_shown_with_its_instants_in_words(site: Installation) -> None:
    done = inspected(site, "-", stdin=f"Bearer {site.token()}\n")
    assert done.code == 0, done
    assert 'typ  "at+jwt"' in done.out
    assert "Z, expires in 9 min" in done.out
    assert last(done).startswith(f"✓ valid: signed by a key of {site.url}; aud was not compared")
    assert inspected(site, stdin=site.token()).code == 0
    assert inspected(site, "Bearer", site.token()).code == 0
    assert inspected(site, f"Bearer {site.token()}").code == 0


def test_another_audience_is_named(site: Installation) -> None:
    token = site.token()
    (audience,) = json.loads(inspected(site, token, "--json").out)["claims"]["aud"]
    assert inspected(site, token, "--audience", audience).code == 0
    done = inspected(site, token, "--audience", "https://other.example")
    assert (done.code, last(done)) == (
        1,
        f"✗ invalid: aud is {audience}, expected https://other.example",
    )


@pytest.mark.parametrize("by", ["setting", "option"])
def test_without_the_issuer_the_claims_are_shown_as_not_verified(site: Installation, by: str) -> None:
    token, nowhere = site.token(), f"http://127.0.0.1:{free_port()}"
    done = (
        inspected(site, token, "--issuer", nowhere)
        if by == "option"
        else inspected(site, token, ISSUER_URL=nowhere)
    )
    assert done.code == 1
    assert "claims, NOT VERIFIED\n" in done.out
    assert "client_id  " in done.out
    assert last(done).startswith(
        f"✗ NOT VERIFIED: cannot fetch {nowhere}/.well-known/oauth-authorization-server: "
    )
    document = json.loads(inspected(site, token, "--issuer", nowhere, "--json").out)
    assert document["verdict"] == "not verified"


def test_an_issuer_without_tls_elsewhere_is_not_asked(site: Installation) -> None:
    done = inspected(site, site.token(), "--issuer", "http://issuer.example")
    assert (done.code, "neither https nor http on this machine" in last(done)) == (1, True)


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        ({"alg": "RS256", "typ": "at+jwt", "kid": EVIL}, {EVIL: EVIL, "iss": EVIL, "exp": 1e300}),
        ({"alg": EVIL}, {"a": [{EVIL: [EVIL]}]}),
        ({"alg": "RS256", "typ": EVIL}, {}),
    ],
)
def test_control_characters_in_a_token_are_escaped(
    site: Installation, header: dict[str, Any], claims: dict[str, Any]
) -> None:
    done = inspected(site, stdin=f"{part(header)}.{part(claims)}.AAAA")
    assert (done.code, "owned" in done.out) == (1, True)
    assert "\\u001b]0;owned" in done.out


def test_a_token_is_never_part_of_an_error_of_usage(site: Installation) -> None:
    for arguments in ([site.token(), site.token()], ["--x" + site.token()], ["-x" + site.token(), "--json"]):
        assert inspected(site, *arguments).code in {1, 2}


def test_a_megabyte_of_junk_is_refused_in_one_line(site: Installation) -> None:
    done = inspected(site, stdin="\x1b[2J" * 250_000)
    assert (done.code, done.out.count("\n"), done.err) == (1, 1, "")
