"""``make audit``: known vulnerabilities of every pinned package, by pip-audit from OSV's advisory database.

pip-audit itself passes over packages that its service does not answer for; here such a run is no success.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parents[2] / "requirements.lock"
OSV_URL = "https://api.osv.dev/v1/query"
UNREACHABLE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when no advisory concerns a package, 1 when one does, 2 when packages could not be audited."""
    parser = argparse.ArgumentParser(prog="make audit", description="Known vulnerabilities of the pinned packages.")
    parser.add_argument("--requirements", type=Path, default=LOCK, help="with hashes (default: %(default)s)")
    parser.add_argument("--osv-url", default=OSV_URL, help="the advisory database (default: %(default)s)")
    options = parser.parse_args(arguments)
    done = subprocess.run(_pip_audit(options.requirements, options.osv_url), capture_output=True, text=True)
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (done.stderr.strip().splitlines() or ["pip-audit printed nothing"])[-1]
        print(f"No package was audited: {options.osv_url} could not be read ({reason}).", file=sys.stderr)
        return UNREACHABLE
    skipped = [f"{package['name']}: {package['skip_reason']}" for package in packages if "skip_reason" in package]
    found = [(package, advisory) for package in packages for advisory in package.get("vulns", [])]
    for package, advisory in found:
        fixed = ", ".join(advisory["fix_versions"]) or "no version"
        print(f"{package['name']} {package['version']}: {advisory['id']}, fixed in {fixed}")
    print(f"{len(packages) - len(skipped)} packages audited, {len(found)} advisories found.")
    if skipped:
        print(f"{len(skipped)} packages could not be audited:", *skipped, sep="\n  ", file=sys.stderr)
    return 1 if found else UNREACHABLE if skipped or not packages else 0


def _pip_audit(requirements: Path, osv_url: str) -> list[str]:
    # Hashes are required, so pip-audit reads the file itself: nothing is downloaded or installed.
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(requirements), "--require-hashes"]
    service = ["--vulnerability-service", "osv", "--osv-url", osv_url]
    return [*command, "--disable-pip", *service, "--format", "json", "--progress-spinner", "off"]


if __name__ == "__main__":
    sys.exit(main())
