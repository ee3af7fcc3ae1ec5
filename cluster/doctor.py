"""``heimdex doctor``: looks at every part without changing anything, and says how to mend what is wrong."""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from uuid import UUID

from rich.table import Table
from rich.text import Text

from cluster import launch
from cluster.active_models import Keyed, ModelName, Stand, to_be_loaded
from cluster.contracts.errors import DatabaseUnavailable, HeimdexError, RefusedByDatabase
from cluster.contracts.search import By
from cluster.ray_node import port_is_free
from cluster.report import result_console
from cluster.settings import LOOPBACK, Settings
from cluster.store.opensearch import check_engine, open_client
from cluster.store.search_models import SETTINGS, SearchModels, State

LITTLE_SPACE_BYTES = 5 * 1024**3
NEEDED_DECODERS = ("h264", "hevc", "vp9", "av1", "aac", "opus", "mp3")


@dataclass(frozen=True)
class Finding:
    """One checked part: whether it is well, what was seen, and the mend when it is not."""

    part: str
    ok: bool
    seen: str
    mend: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Check everything; a check that raises is a finding, never the end of the examination."""
    checks: list[tuple[str, Callable[[Settings], Iterator[Finding]]]] = [
        ("python", _python),
        ("data directory", _data_directory),
        ("database", _database),
        ("ray", _ray),
        ("ports", _ports),
        ("hardware", _hardware),
        ("video decoding", _decoding),
        ("speech model", _speech_model),
        ("vision model", _vision_model),
        ("text model", _text_model),
        ("search engine", _search_engine),
        ("tokens", _tokens),
    ]
    findings: list[Finding] = []
    for part, check in checks:
        try:
            findings += check(settings)
        except HeimdexError as error:
            findings.append(Finding(part, False, str(error), "as it says"))
        except Exception as error:  # a broken part must not hide the others
            findings.append(Finding(part, False, f"{type(error).__name__}: {error}", "see README, Troubleshooting"))
    return findings


def show_findings(findings: list[Finding]) -> None:
    """A table on standard output: what is well, what is not, and the mend."""
    table = Table(show_header=False)
    for finding in findings:
        text = Text(finding.seen)
        if not finding.ok:
            text.append("\nmend: ", style="bold").append(finding.mend)
        table.add_row("[green]ok[/]" if finding.ok else "[red]wrong[/]", finding.part, text)
    result_console().print(table)


def _python(_: Settings) -> Iterator[Finding]:
    yield Finding("python", sys.version_info >= (3, 11), platform.python_version(), "install Python 3.11 or newer")


def _data_directory(settings: Settings) -> Iterator[Finding]:
    for part, folder in (("data directory", settings.data_dir), ("scratch directory", settings.scratch_dir)):
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
    from cluster.store.database import connect, place
    from cluster.store.embedded import binary
    from cluster.store.migrations import pending_migrations

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
    seen = f"{len(pending)} migrations are missing" if pending else "up to date"
    yield Finding("migrations", not pending, seen, "heimdex migrate")
    if not pending:
        yield _functions(url)
        yield _owner(url, settings.resolved_owner_id)


def _functions(url: str) -> Finding:
    from cluster.store.admin_functions import changed_functions
    from cluster.store.database import connect

    with connect(url, name="heimdex-doctor") as connection:
        changed = changed_functions(connection)
    seen = f"not those of the migrations: {', '.join(changed)}" if changed else "those of the migrations"
    return Finding("admin functions", not changed, seen, "heimdex migrate, which restores them")


def _owner(url: str, owner_id: UUID) -> Finding:
    from cluster.store.submissions import check_owner

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


def _speech_model(settings: Settings) -> Iterator[Finding]:
    from cluster.models.sources import hub_answers
    from cluster.models.speech import local_directory

    name = settings.whisper_model or "small"
    directory = local_directory(name)
    mend = "set HEIMDEX_WHISPER_MODEL to a directory with a CTranslate2 Whisper model, or to bundled"
    if directory is not None:
        yield Finding("speech model", True, f"{name}: {directory}")
    elif hub_answers():
        yield Finding("speech model", True, f"{name}: not here yet, the first `up` downloads it")
    else:
        yield Finding("speech model", False, f"{name}: not here, and the model hub cannot be reached", mend)


def _vision_model(settings: Settings) -> Iterator[Finding]:
    from cluster.models.labels import load_labels
    from cluster.models.vision import load_vision_model

    stand = _models_of_scenes(settings)
    configured = ModelName(*settings.clip_on(), chosen=settings.clip_is_chosen)
    named = to_be_loaded(stand, By.PICTURE, configured)
    model = load_vision_model(named.name, named.pretrained, "cpu")
    seen = f"{model.key}, {model.image_size_px} px, {model.dimensions} numbers"
    fits = settings.key_frame_px >= model.image_size_px
    yield Finding("vision model", fits, seen, f"set HEIMDEX_KEY_FRAME_PX to at least {model.image_size_px}")
    yield from _other_model(By.PICTURE, model, stand)
    groups = load_labels(settings.labels_file, named.name)
    yield Finding("labels", True, f"{sum(map(len, groups))} in {len(groups)} groups")


def _text_model(settings: Settings) -> Iterator[Finding]:
    from cluster.models.text import load_text_model

    stand = _models_of_scenes(settings)
    named = to_be_loaded(stand, By.MEANING, ModelName(settings.text_model))
    model = load_text_model(named.name, "cpu", key=named.key)
    yield Finding("text model", True, model.key)
    yield from _other_model(By.MEANING, model, stand)


def _models_of_scenes(settings: Settings) -> Stand:
    """Those whose vectors are stored; none where no database can say so, which is another finding."""
    from cluster.store.database import open_pool
    from cluster.store.migrations import pending_migrations

    url = launch.existing_database_url(settings)
    try:
        if url is not None and not pending_migrations(url):
            with open_pool(url, max_size=1, name="heimdex-doctor") as pool:
                return SearchModels(pool).by_state()
    except DatabaseUnavailable:
        pass
    return {state: {} for state in State}


def _other_model(by: By, model: Keyed, stand: Stand) -> Iterator[Finding]:
    active = stand[State.ACTIVE].get(by)
    if active is None:
        return
    if active.key != model.key:
        mend = f"set {SETTINGS[by]} to {active.name}, or embed the scenes again by `heimdex reembed`"
        yield Finding(f"vectors by {by}", False, f"all are {active.key}'s, the settings name {model.key}", mend)
    elif active.dimensions != model.dimensions:
        seen = f"they have {active.dimensions} numbers, {model.key} gives {model.dimensions}"
        yield Finding(f"vectors by {by}", False, seen, f"bring back the files of {active.name} that made them")


def _search_engine(settings: Settings) -> Iterator[Finding]:
    if settings.search_engine is None:
        yield Finding("search engine", True, "Postgres itself")
        return
    client = open_client(settings.search_engine)
    check_engine(client)
    yield Finding("search engine", True, f"OpenSearch {client.info()['version']['number']}")


def _tokens(settings: Settings) -> Iterator[Finding]:
    if settings.jwks_url:
        yield Finding("tokens", True, f"public keys from {settings.jwks_url}")
    elif settings.jwt_secret:
        yield Finding("tokens", True, "HS256 with HEIMDEX_JWT_SECRET")
    else:
        yield Finding("tokens", True, f"HS256 with the data directory's own secret ({_secret_file(settings)})")
    admins = settings.resolved_admin_user_ids
    yield Finding("admins", bool(admins), f"{len(admins)}", "set HEIMDEX_ADMIN_USER_IDS, or nobody may read /v1/admin")


def _secret_file(settings: Settings) -> Path:
    return settings.data_dir / "jwt_secret"
