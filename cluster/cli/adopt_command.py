"""``heimdex adopt``: an existing Heimdex database made usable, with a report; and what waits there taken over."""

import json
from collections import Counter
from functools import partial
from typing import Annotated, Any

import typer

from cluster.cli.terminal import out, out_json, out_lines, say
from cluster.contracts.counts import counted, form
from cluster.contracts.errors import ConfigurationError
from cluster.settings import Settings, load_settings

SHOWN_REASONS = 5


def adopt(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what is left to do, change nothing.")] = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Queue videos that are PENDING there, instead of the other steps.")
    ] = False,
    failed: Annotated[
        bool, typer.Option("--failed", help="With --take-over: those that are FAILED there too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Make an existing Heimdex database usable: migrate, backfill, index words, embed; then examine everything.

    Each step does what is left to do: interrupted, the same command goes on; a second
    run changes nothing. Exit status 1: scenes could not be embedded, or the
    examination found something wrong; with --take-over: videos were left as they are.
    """
    if failed and not take_over:
        raise typer.BadParameter("--failed is for --take-over")
    settings = load_settings()
    urls = settings.database_urls
    if urls is None:
        raise ConfigurationError("HEIMDEX_DATABASE_URL is not set: it says where the existing database is")
    well = (
        _take_over(settings, urls.migrate, failed=failed, dry=dry_run, as_json=as_json)
        if take_over
        else _adopt(settings, urls.migrate, dry=dry_run, as_json=as_json)
    )
    if not well:
        raise typer.Exit(1)


def _adopt(settings: Settings, url: str, *, dry: bool, as_json: bool) -> bool:
    from cluster.cli.adopt import adopt as run
    from cluster.cli.adopt import look
    from cluster.cli.reembed_command import ray_at_hand

    report = look(url) if dry else run(settings, url, partial(ray_at_hand, settings), say)
    if as_json:
        out_lines(report_json(report))
    else:
        for line in _lines(report):
            out(line)
    if dry:
        return True
    return _examine(settings, as_json) and not report.lacking


def _examine(settings: Settings, as_json: bool) -> bool:
    from cluster.cli.doctor import examine
    from cluster.cli.finding import show_findings

    findings = examine(settings)
    if not as_json:
        show_findings(findings)
    return all(finding.ok for finding in findings)


def _take_over(settings: Settings, url: str, *, failed: bool, dry: bool, as_json: bool) -> bool:
    from cluster.cli.adopt import take_over_left

    taken = take_over_left(settings, url, failed=failed, dry=dry, say=say)
    if as_json:
        out_json(vars(taken))
    else:
        out(f"{counted(taken.queued, 'video')} {'would be' if dry else form(taken.queued, 'is', 'are')} queued")
        for reason, count in taken.refused.most_common():
            out(f"{counted(count, 'video stays as it is', 'videos stay as they are')}: {reason}")
        for example in taken.examples:
            out(f"  {example}")
    return not taken.refused


def report_json(report: Any) -> str:
    """The report as one JSON object, reasons with their counts; ``failed``: how many scenes."""
    found = {**vars(report), "inventory": report.inventory and vars(report.inventory), "failed": len(report.failed)}
    return json.dumps(found, indent=1)


def _lines(report: Any) -> list[str]:
    found, would = report.inventory, "would be " if report.dry else ""
    lines = [
        f"{found.owners} people, {found.ready} READY, {found.failed} FAILED, {found.pending} PENDING and "
        f"{counted(found.processing, 'PROCESSING video')}, {counted(found.scenes, 'scene')}",
        f"{counted(report.migrations, 'migration')} {would}applied",
        *([f"{report.restored} functions {would}restored, which others had replaced"] if report.restored else []),
        f"{counted(report.backfilled, 'video')} {would}given a finish time",
        f"{counted(report.indexed, 'scene')} and {counted(report.words, 'word')} {would}added to the text index",
        f"{report.untried} thumbnails would be tried as key frames"
        if report.dry
        else f"{report.key_frames} thumbnails copied as key frames",
        f"{counted(report.embedded, 'scene')} {would}embedded",
        f"{counted(report.without_picture, 'scene has', 'scenes have')} no picture that can be embedded, "
        f"{report.without_text} no text",
    ]
    if found.scenes_unnumbered:
        lines.append(
            f"{counted(found.scenes_unnumbered, 'scene is', 'scenes are')} found by Postgres and not by "
            "OpenSearch: their index is negative, "
            "too large, or that of another scene of the video"
        )
    lines += _reasons(report.unreadable, "thumbnails cannot be read")
    lines += _reasons(Counter(report.failed.values()), "scenes cannot be embedded")
    if report.left:
        lines.append(
            f"{counted(report.left, 'video is', 'videos are')} PENDING elsewhere: "
            "`heimdex adopt --take-over` queues them here"
        )
    if not report.changes:
        lines.append("Nothing is left to do." if report.dry else "Nothing was left to do; nothing was changed.")
    return lines


def _reasons(reasons: Counter[str], what: str) -> list[str]:
    if not reasons:
        return []
    shown = [f"  {count} times: {reason}" for reason, count in reasons.most_common(SHOWN_REASONS)]
    return [f"{reasons.total()} {what}:", *shown]
