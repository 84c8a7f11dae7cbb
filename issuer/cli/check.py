"""`issuer check`: what is wrong with this installation, and how to fix it."""

from collections.abc import Iterator, Sequence

import typer
from rich.text import Text

from issuer.checks.finding import Finding, Severity
from issuer.checks.installation import Looked, look
from issuer.cli.output import Exit, Json, console, show
from issuer.clock import system_clock
from issuer.logs import terminal_safe

MARKS = {Severity.PROBLEM: ("✗", "bold red"), Severity.WARNING: ("!", "bold yellow")}
WELL = ("✓", "green")
IN_ASCII = str.maketrans({"✗": "x", "✓": "ok"})


def check(*, as_json: Json = False) -> None:
    """Check settings, database, key ring and private keys; report what is wrong and how to fix it.

    Changes nothing. Exit 1 if there is a problem; warnings alone exit 0.
    """
    looked = list(look(system_clock))
    found = [finding for each in looked for finding in each.findings]
    counts = {severity: sum(finding.severity is severity for finding in found) for severity in Severity}
    document = {
        "problems": counts[Severity.PROBLEM],
        "warnings": counts[Severity.WARNING],
        "checks": [
            {"check": each.at, "note": each.note, "findings": [_described(each) for each in each.findings]}
            for each in looked
        ],
    }
    if not as_json:
        _draw(looked)
    told = [f"{count} {severity}{'s' * (count != 1)}" for severity, count in counts.items() if count]
    show(document, as_json=as_json, says=", ".join(told) or "no problems found")
    if counts[Severity.PROBLEM]:
        raise typer.Exit(Exit.FAILED)


def _described(finding: Finding) -> dict[str, str]:
    return {"severity": finding.severity.value, "wrong": finding.wrong, "fix": finding.fix.line}


def _draw(looked: Sequence[Looked]) -> None:
    terminal = console()
    has_marks = terminal.encoding.startswith("utf")
    for each in looked:
        for line in _lines(each):
            if not has_marks:
                line.plain = line.plain[0].translate(IN_ASCII) + line.plain[1:]
            terminal.print(line, soft_wrap=True)


def _lines(looked: Looked) -> Iterator[Text]:
    """Yield a line with a mark for what is well, and for each finding what is wrong, and alone what clears it."""
    note = f": {terminal_safe(looked.note)}" if looked.note else ""
    if not looked.findings:
        yield Text.assemble(WELL, f" {looked.at}{note}")
    elif note:
        yield Text(f"  {looked.at}{note}")
    for finding in looked.findings:
        mark = MARKS[finding.severity]
        yield Text.assemble(mark, f" {looked.at}: ", terminal_safe(finding.wrong))
        for line in finding.fix.line.split("\n"):
            yield Text(f"    {terminal_safe(line)}", style="bold")
