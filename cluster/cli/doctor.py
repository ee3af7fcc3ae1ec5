"""``heimdex doctor``: looks at every part without changing anything, and says how to fix what is wrong."""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from uuid import UUID

from cluster.cli.doctor_database import database_encryption, database_roles
from cluster.cli.doctor_host import private_files
from cluster.cli.doctor_models import speech_model, text_model, vision_model
from cluster.cli.doctor_origins import submissions
from cluster.cli.finding import Finding
from cluster.contracts.counts import counted
from cluster.contracts.errors import ConfigurationError, DatabaseUnavailable, HeimdexError, RefusedByDatabase
from cluster.contracts.uris import local_path
from cluster.decoders.sandbox import available
from cluster.runtime import launch
from cluster.runtime.ray_node import port_is_free
from cluster.settings import LOOPBACK, Settings
from cluster.store.opensearch.client import check_engine, open_client

LITTLE_SPACE_BYTES = 5 * 1024**3
TRIED_PATHS = 3
"""Stored files that are tried; one that can be read is enough."""
NEEDED_DECODERS = ("h264", "hevc", "vp9", "av1", "aac", "opus", "mp3")


def examine(settings: Settings) -> list[Finding]:
    """Check everything; a check that raises is a finding, never the end of the examination."""
    checks: list[tuple[str, Callable[[Settings], Iterator[Finding]]]] = [
        ("python", _python),
        ("data directory", _data_directory),
        ("other accounts", private_files),
        ("database", _database),
        ("database roles", database_roles),
        ("database TLS", database_encryption),
        ("ray", _ray),
        ("ports", _ports),
        ("hardware", _hardware),
        ("video decoding", _decoding),
        ("sandbox", _sandbox),
        ("speech model", speech_model),
        ("vision model", vision_model),
        ("text model", text_model),
        ("search engine", _search_engine),
        ("storage root", _storage_root),
        ("submissions", submissions),
        ("tokens", _tokens),
    ]
    findings: list[Finding] = []
    for part, check in checks:
        try:
            findings += check(settings)
        except HeimdexError as error:
            findings.append(Finding(part, False, str(error), "as it says"))
        except Exception as error:  # a broken part must not hide the others
            findings.append(Finding(part, False, f"{type(error).__name__}: {error}", "see docs/troubleshooting.md"))
    return findings


def _python(_: Settings) -> Iterator[Finding]:
    yield Finding("python", sys.version_info >= (3, 11), platform.python_version(), "install Python 3.11 or newer")


def _data_directory(settings: Settings) -> Iterator[Finding]:
    for part, folder in (("data directory", settings.data_dir), ("scratch directory", settings.resolved_scratch_dir)):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free_bytes = shutil.disk_usage(existing).free
        seen = f"{folder}, {free_bytes / 1024**3:.0f} GiB free"
        writable = os.access(existing, os.W_OK)
        yield Finding(part, writable, seen, f"make {existing} writable or set HEIMDEX_{_variable(part)}")
        if free_bytes < LITTLE_SPACE_BYTES:
            yield Finding(part, False, seen, f"free some space or set HEIMDEX_{_variable(part)}")


def _variable(part: str) -> str:
    return part.split()[0].upper() + "_DIR"


def _database(settings: Settings) -> Iterator[Finding]:
    from cluster.store.postgres.connections import connect, place
    from cluster.store.postgres.embedded import binary
    from cluster.store.postgres.migrations import pending_migrations

    url = launch.existing_database_url(settings)
    if url is None:
        yield Finding("database", True, f"embedded ({binary('postgres').parent}), not running: `heimdex up` starts it")
        return
    with connect(url, name="heimdex-doctor") as connection:
        row = connection.execute("SHOW server_version").fetchone()
        vector = connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone()
    assert row is not None
    yield Finding("database", True, f"PostgreSQL {row['server_version']} at {place(url)}")
    yield Finding(
        "pgvector", vector is not None, "available" if vector else "missing", "install pgvector on the server"
    )
    pending = pending_migrations(url)
    seen = f"{counted(len(pending), 'migration is', 'migrations are')} missing" if pending else "up to date"
    yield Finding("migrations", not pending, seen, "heimdex migrate")
    yield _rows(url)
    if not pending:
        yield _functions(url)
        yield _owner(url, settings.resolved_owner_id)


def _rows(url: str) -> Finding:
    from cluster.store.postgres.row_security import refuse_hidden_rows

    try:
        refuse_hidden_rows(url)
    except ConfigurationError as error:
        return Finding("rows", False, str(error), "as it says")
    return Finding("rows", True, "all are seen")


def _functions(url: str) -> Finding:
    from cluster.store.postgres.admin_functions import changed_functions
    from cluster.store.postgres.connections import connect

    with connect(url, name="heimdex-doctor") as connection:
        changed = changed_functions(connection)
    seen = f"not those of the migrations: {', '.join(changed)}" if changed else "those of the migrations"
    return Finding("admin functions", not changed, seen, "heimdex migrate, which restores them")


def _owner(url: str, owner_id: UUID) -> Finding:
    from cluster.store.queue.submissions import check_owner

    try:
        check_owner(url, owner_id)
    except RefusedByDatabase as error:
        return Finding("owner", False, str(error), "set HEIMDEX_OWNER_ID to an id that the database knows")
    return Finding("owner", True, f"videos of {owner_id} may be written")


def _ray(settings: Settings) -> Iterator[Finding]:
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    yield Finding("ray", mode == "token", f"ray {version('ray')}, authentication: {mode}", "unset RAY_AUTH_MODE")
    state = launch.find(settings)
    if state is not None:
        yield Finding("cluster", True, f"up at {state.http_url}")


def _ports(settings: Settings) -> Iterator[Finding]:
    if launch.find(settings) is not None:
        return
    ports = [("HEIMDEX_HTTP_PORT", settings.http_host, settings.http_port)]
    if settings.ray_address is None:
        ports.append(("HEIMDEX_DASHBOARD_PORT", LOOPBACK, settings.dashboard_port))
    for name, host, port in ports:
        free = port == 0 or port_is_free(host, port)
        yield Finding(
            name, free, f"{host}:{port} is {'free' if free else 'in use'}", f"set {name} to another port, or 0"
        )


def _hardware(settings: Settings) -> Iterator[Finding]:
    import ctranslate2
    import torch

    cpus = os.cpu_count() or 1
    torch_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    speech_gpus = ctranslate2.get_cuda_device_count()
    seen = f"{cpus} CPUs, {torch_gpus} GPUs (torch {torch.__version__}), {speech_gpus} for CTranslate2"
    asked = settings.device == "cuda"
    yield Finding("hardware", torch_gpus > 0 or not asked, seen, "HEIMDEX_DEVICE=cuda needs a GPU that torch sees")
    if torch_gpus:
        from cluster.models.speech import preload_cublas

        preload_cublas()
        yield Finding("libcublas.so.12", True, "loads (CTranslate2 needs it beside torch's CUDA 13)")


def _decoding(_: Settings) -> Iterator[Finding]:
    import av

    missing = [name for name in NEEDED_DECODERS if name not in av.codecs_available]
    seen = f"PyAV {av.__version__}" + (f", without {', '.join(missing)}" if missing else "")
    yield Finding("video decoding", not missing, seen, "install the av wheel from the package index")


def _sandbox(_: Settings) -> Iterator[Finding]:
    """A kernel without the means is no error: decoders run with what there is, which is said."""
    offered = available()
    yield Finding("sandbox", True, f"decoders have {offered}", "")


def _search_engine(settings: Settings) -> Iterator[Finding]:
    if settings.search_engine is None:
        yield Finding("search engine", True, "Postgres itself")
        return
    client = open_client(settings.search_engine)
    check_engine(client)
    yield Finding("search engine", True, f"OpenSearch {client.info()['version']['number']}")


def _storage_root(settings: Settings) -> Iterator[Finding]:
    """One file of a few that the database names must be readable; without any, a directory must be there."""
    from cluster.files.fetch_limits import fetch_limits
    from cluster.files.storage import check_stored

    limits = fetch_limits(settings)
    if limits.storage_root is None:
        return
    root = limits.storage_root.url
    paths = _stored_paths(settings)
    errors = []
    for path in paths:
        try:
            check_stored(path, limits)
        except HeimdexError as error:
            errors.append(str(error))
            continue
        yield Finding("storage root", True, f"{root}, {path} can be read")
        return
    if errors:
        seen = f"{root}: none of {len(errors)} stored files can be read; {errors[0]}"
        yield Finding("storage root", False, seen, "set HEIMDEX_STORAGE_ROOT to where the files of videos are")
        return
    folder = local_path(root)
    missing = folder is not None and not os.access(folder, os.R_OK | os.X_OK)
    seen = "no such directory, or it cannot be read" if missing else "no video has a path below it that could be tried"
    yield Finding("storage root", not missing, f"{root}: {seen}", "create it or set HEIMDEX_STORAGE_ROOT")


def _stored_paths(settings: Settings) -> list[str]:
    """A few relative storage paths of the database; none where it cannot say, which is another finding."""
    from cluster.store.postgres.connections import open_pool
    from cluster.store.postgres.migrations import pending_migrations
    from cluster.store.videos.adoption import Adoption

    url = launch.existing_database_url(settings)
    try:
        if url is not None and not pending_migrations(url):
            with open_pool(url, max_size=1, name="heimdex-doctor") as pool:
                return Adoption(pool).stored_paths(TRIED_PATHS)
    except DatabaseUnavailable:
        pass
    return []


def _tokens(settings: Settings) -> Iterator[Finding]:
    if settings.jwks_url:
        yield Finding("tokens", True, f"public keys from {settings.jwks_url}")
    elif settings.jwt_secret:
        before = ", and with HEIMDEX_JWT_PREVIOUS_SECRET" if settings.jwt_previous_secret else ""
        yield Finding("tokens", True, f"HS256 with HEIMDEX_JWT_SECRET{before}")
    else:
        yield Finding("tokens", True, f"HS256 with the data directory's own secret ({_secret_file(settings)})")
    admins = settings.resolved_admin_user_ids
    yield Finding("admins", bool(admins), f"{len(admins)}", "set HEIMDEX_ADMIN_USER_IDS, or no user may read /v1/admin")


def _secret_file(settings: Settings) -> Path:
    return settings.data_dir / "jwt_secret"
