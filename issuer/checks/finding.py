"""A finding: what is wrong, how bad it is, and what clears it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from issuer.fixes import Concern, Fix


class Severity(StrEnum):
    """How bad it is."""

    PROBLEM = "problem"
    """It does not work, or is not safe."""
    WARNING = "warning"
    """It works, and perhaps not as its operator thinks."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    severity: Severity
    wrong: str
    fix: Fix


def problem(wrong: str, fix: Fix) -> Finding:
    """Return a finding that must be fixed."""
    return Finding(Severity.PROBLEM, wrong, fix)


def warning(wrong: str, fix: Fix) -> Finding:
    """Return a finding to think about."""
    return Finding(Severity.WARNING, wrong, fix)


def warnings(concerns: Iterable[Concern]) -> Iterator[Finding]:
    """Yield a warning for each concern."""
    for concern in concerns:
        yield warning(concern.wrong, concern.fix)
