"""A finding: what is wrong, how bad it is, and what mends it."""

from dataclasses import dataclass
from enum import StrEnum


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
    mend: str
    """A command for a shell, or a line for `.env`; what stands in capitals is for the operator to fill in."""


def problem(wrong: str, mend: str) -> Finding:
    """Return a finding that must be mended."""
    return Finding(Severity.PROBLEM, wrong, mend)


def warning(wrong: str, mend: str) -> Finding:
    """Return a finding to think about."""
    return Finding(Severity.WARNING, wrong, mend)
