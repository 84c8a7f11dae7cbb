"""A finding: what is wrong, its severity, and its fix."""

import os
import pwd
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from issuer.fixes import ConfigWarning, Fix, Kind


class Severity(StrEnum):
    """The severity of a finding."""

    PROBLEM = "problem"
    """Something does not work, or is not secure."""
    WARNING = "warning"
    """Something works, but perhaps not as intended."""


@dataclass(frozen=True)
class Finding:
    """One problem or warning."""

    severity: Severity
    wrong: str
    fix: Fix


def other_user(path: Path) -> Finding | None:
    """Return a problem if root checks an installation of another user: fixes run as root would break it."""
    try:
        owner = path.stat().st_uid
    except OSError:
        return None
    if os.geteuid() != 0 or owner == 0:
        return None
    try:
        run = f"runuser -u {pwd.getpwuid(owner).pw_name} --"
    except KeyError:  # a container may run as a number without a name
        run = f"setpriv --reuid={owner} --clear-groups"
    return problem(
        f"this runs as root, and {path} belongs to user {owner}: run it as that user",
        Fix(Kind.OTHER_USER, f"{run} issuer check", clears=False),
    )


def problem(wrong: str, fix: Fix) -> Finding:
    """Return a finding that must be fixed."""
    return Finding(Severity.PROBLEM, wrong, fix)


def warning(wrong: str, fix: Fix) -> Finding:
    """Return a finding that may be intended."""
    return Finding(Severity.WARNING, wrong, fix)


def warnings(found: Iterable[ConfigWarning]) -> Iterator[Finding]:
    """Yield a finding for each warning about the configuration."""
    for each in found:
        yield warning(each.message, each.fix)
