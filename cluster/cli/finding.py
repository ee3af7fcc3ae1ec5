"""What an examination found of one part, and how people are shown it."""

from dataclasses import dataclass

from rich.table import Table

from cluster.cli.terminal import cell, result_console
from cluster.security.visible import visible


@dataclass(frozen=True)
class Finding:
    """One checked part: whether it is well, what was seen, and the fix when it is not."""

    part: str
    ok: bool
    seen: str
    fix: str = ""


def show_findings(findings: list[Finding]) -> None:
    """A table on standard output: what is well, what is not, and the fix."""
    table = Table(show_header=False)
    for finding in findings:
        text = cell(finding.seen)
        if not finding.ok:
            text.append("\nfix: ", style="bold").append(visible(finding.fix))
        table.add_row("[green]ok[/]" if finding.ok else "[red]wrong[/]", finding.part, text)
    result_console().print(table)
