"""Operator commands, run on an installation as by a script; none may print a secret."""

from typing import Any

from support.servers import PASSPHRASE, Done, Installation

PASSWORD = "violet otters juggle pancakes"
OTHER_PASSWORD = "orange badgers fold umbrellas"
NEVER_PRINTED = (PASSWORD, OTHER_PASSWORD, PASSPHRASE, "$argon2", "PRIVATE KEY")


def run(installation: Installation, *arguments: str, stdin: str = "") -> Done:
    """Run a command; fail if it prints a secret."""
    done = installation.command(*arguments, stdin=stdin)
    assert not [secret for secret in NEVER_PRINTED if secret in done.out + done.err]
    assert "Traceback" not in done.err
    return done


def told(installation: Installation, *arguments: str, stdin: str = "", code: int = 0) -> Any:
    """Run a command with `--json`, and return the document, which must be the whole of stdout."""
    done = run(installation, *arguments, "--json", stdin=stdin)
    assert done.code == code, done
    return done.document
