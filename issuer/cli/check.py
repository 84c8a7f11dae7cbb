"""`issuer check`: shows the results of `checks.installation`."""

from collections.abc import Iterator, Sequence

import typer
from rich.text import Text

from issuer.checks.finding import Finding, Severity
from issuer.checks.installation import CheckResult, run_checks
from issuer.cli.output import Exit, Json, show
from issuer.cli.terminal import STYLES, console, shorten_kids, status
from issuer.clock import system_clock
from issuer.logs import terminal_safe

MARKS = {Severity.PROBLEM: ("✗", STYLES["failed"]), Severity.WARNING: ("!", STYLES["warning"])}
PASSED = ("✓", STYLES["passed"])


def check(*, as_json: Json = False) -> None:
    """Check settings, mail server, database, key ring and private keys; report what is wrong and how to fix it.

    Changes nothing. Exit 1 if there is a problem; warnings alone exit 0.
    """
    with status("checking the installation", as_json=as_json):
        results = list(run_checks(system_clock))
    found = [finding for each in results for finding in each.findings]
    counts = {severity: sum(finding.severity is severity for finding in found) for severity in Severity}
    document = {
        "problems": counts[Severity.PROBLEM],
        "warnings": counts[Severity.WARNING],
        "checks": [
            {"check": each.name, "note": each.note, "findings": [_described(each) for each in each.findings]}
            for each in results
        ],
    }
    if not as_json:
        _draw(results)
    summary = [f"{count} {severity}{'s' * (count != 1)}" for severity, count in counts.items() if count]
    show(document, as_json=as_json, message=", ".join(summary) or "no problems found")
    if counts[Severity.PROBLEM]:
        raise typer.Exit(Exit.FAILED)


def _described(finding: Finding) -> dict[str, str]:
    return {"severity": finding.severity.value, "wrong": finding.wrong, "fix": finding.fix.line}


def _draw(results: Sequence[CheckResult]) -> None:
    terminal = console()
    for result in results:
        for line in _lines(result):
            terminal.print(line, soft_wrap=True)


def _lines(result: CheckResult) -> Iterator[Text]:
    """Yield a line for a check without findings; else a line for each finding, and its fix on lines of its own."""
    note = f": {terminal_safe(result.note)}" if result.note else ""
    if not result.findings:
        yield Text.assemble(PASSED, f" {result.name}{note}")
    elif note:
        yield Text(f"  {result.name}{note}")
    for finding in result.findings:
        mark = MARKS[finding.severity]
        yield Text.assemble(mark, f" {result.name}: ", shorten_kids(terminal_safe(finding.wrong)))
        for line in finding.fix.line.split("\n"):
            yield Text(f"    {terminal_safe(line)}", style="bold")
