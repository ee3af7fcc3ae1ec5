"""Every setting, read once from HEIMDEX_* and checked at start.

``load_settings`` is the only reader of the environment. The composition roots (``cluster.runtime.launch``,
``cluster.cli.main``, ``serve_app.app.build_app``) read it and hand parts on; no object keeps the whole.
"""

import difflib
import os
import secrets
import uuid
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from cluster.contracts.channels import is_protected
from cluster.contracts.database_url import DatabaseUrl, DatabaseUrls, with_user_of
from cluster.contracts.errors import ConfigurationError
from cluster.contracts.quotas import DAY_H, MOST_PERIOD_H, OwnerQuotas
from cluster.contracts.search import EngineAddress, Retriever
from cluster.contracts.uri_prefixes import UriPrefix
from cluster.security.data_folder import check_data_folder
from cluster.security.log_output import LogConfig, LogFormat, LogLevel
from cluster.security.private_files import make_once, make_private_parents
from cluster.security.secret_files import SUFFIX, with_secrets_read

PREFIX = "HEIMDEX_"
LOOPBACK = "127.0.0.1"
CPU_CLIP_MODEL, GPU_CLIP_MODEL = "ViT-B-32", "ViT-B-16-SigLIP2-256"
_DEFAULT_WEIGHTS = {CPU_CLIP_MODEL: "laion2b_s34b_b79k", GPU_CLIP_MODEL: "webli"}
DEFAULT_SPEECH_MODELS = ("small", "large-v3-turbo")
"""On a CPU, and on a GPU."""
BUNDLED = "bundled"
MODELS = ("whisper_model", "clip_model", "text_model")
"""The settings that HEIMDEX_MODELS sets where they are not set themselves."""
ROLE_URLS = ("migrate_database_url", "worker_database_url", "api_database_url", "reader_database_url")
"""The settings with a role's own URL of the database."""
SECRETS_IN_FILES = {
    "database_url", "database_direct_url", "opensearch_password", "storage_key", "jwt_secret", "jwt_previous_secret",
    *ROLE_URLS,
}  # fmt: skip
"""Settings that may be read from a file, named by the setting that ends in ``_file``."""
SECRETS = SECRETS_IN_FILES | {"opensearch_url"}
"""Settings whose value never appears in a message."""
_NOT_SHOWN = SECRETS | {"jwks_url", "scenes_url", "storage_root"}


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _prefix(written: str) -> str:
    return UriPrefix.read(written).template


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _file_of(secret: str) -> Any:
    return Field(None, description=f"A file that holds {PREFIX}{secret.upper()}, closed to other accounts.")


CommaSeparated = (NoDecode, BeforeValidator(_split))
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Schemes = Annotated[tuple[Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*$")], ...], *CommaSeparated]
UriPrefixes = Annotated[tuple[Annotated[str, AfterValidator(_prefix)], ...], *CommaSeparated]


class Settings(BaseSettings):
    """The settings of one cluster. Field ``x`` is the variable ``HEIMDEX_X``; the description is its documentation."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    # Where things are
    data_dir: AbsolutePath = Field(
        Path("~/.heimdex"), description="Embedded Postgres, thumbnails, logs and run state.", validate_default=True
    )
    database_url: str | None = Field(
        None,
        pattern=r"^postgres(ql)?://",
        description="A PostgreSQL 15+ with pgvector, whose tables `heimdex migrate` makes; unset: an embedded one in "
        "the data directory.",
    )
    database_url_file: AbsolutePath | None = _file_of("database_url")
    database_pooler: Literal["transaction"] | None = Field(
        None,
        description="`transaction`: HEIMDEX_DATABASE_URL leads to a pooler that keeps no session; unset: to a server.",
    )
    database_direct_url: str | None = Field(
        None,
        pattern=r"^postgres(ql)?://",
        description="The same database past the pooler, for LISTEN, locks and long statements; unset: polling only.",
    )
    database_direct_url_file: AbsolutePath | None = _file_of("database_direct_url")
    migrate_database_url: str | None = Field(
        None,
        pattern=r"^postgres(ql)?://",
        description="The same database as the owner of its tables, for migrations; unset: HEIMDEX_DATABASE_URL.",
    )
    migrate_database_url_file: AbsolutePath | None = _file_of("migrate_database_url")
    worker_database_url: str | None = Field(
        None,
        pattern=r"^postgres(ql)?://",
        description="The same for scheduler, workers and commands (`heimdex_worker`); unset: HEIMDEX_DATABASE_URL.",
    )
    worker_database_url_file: AbsolutePath | None = _file_of("worker_database_url")
    api_database_url: str | None = Field(
        None,
        pattern=r"^postgres(ql)?://",
        description="The same for the HTTP endpoints (`heimdex_api`); unset: HEIMDEX_DATABASE_URL.",
    )
    api_database_url_file: AbsolutePath | None = _file_of("api_database_url")
    reader_database_url: str | None = Field(
        None,
        pattern=r"^postgres(ql)?://",
        description="The same for what only reads, notebooks (`heimdex_reader`); unset: HEIMDEX_DATABASE_URL.",
    )
    reader_database_url_file: AbsolutePath | None = _file_of("reader_database_url")
    opensearch_url: str | None = Field(
        None,
        pattern=r"^https?://[^@]+$",
        description="An OpenSearch 3 with its k-NN plugin that finds the scenes; unset: Postgres does.",
    )
    opensearch_user: str | None = Field(None, description="User at that OpenSearch (basic authentication).")
    opensearch_password: str | None = Field(None, description="That user's password.")
    opensearch_password_file: AbsolutePath | None = _file_of("opensearch_password")
    opensearch_ca_file: AbsolutePath | None = Field(
        None, description="Certificates (PEM) that an https OpenSearch is trusted by; unset: the system's."
    )
    opensearch_prefix: str = Field(
        "heimdex",
        pattern=r"^[a-z][a-z0-9-]*$",
        description="What the names of its indexes begin with; clusters that share an OpenSearch need one each.",
    )
    opensearch_shards: Annotated[int, Field(ge=1)] = Field(
        1, description="Shards of an index that is built; about one for every 10 million scenes."
    )
    storage_root: str | None = Field(
        None,
        description="Where relative storage paths are read: a directory, fsspec URL, or http(s) URL of a storage API.",
    )
    storage_key: str | None = Field(None, description="Key for a storage root by http(s), sent as Bearer and apikey.")
    storage_key_file: AbsolutePath | None = _file_of("storage_key")
    scenes_url: str | None = Field(
        None,
        description="Where thumbnails and key frames go: a directory or any fsspec URL; unset: the data directory.",
    )
    scratch_dir: AbsolutePath | None = Field(
        None,
        description="Downloaded videos, on each node, until they are done; unset: `scratch` in the data directory.",
    )

    log_level: LogLevel = Field("info", description="Least level of what is logged: debug, info, warning or error.")
    log_format: LogFormat = Field(
        "console",
        description="How processes log on standard error: `json`, an object a line, or `console`, text; "
        "`heimdex logs` has both.",
    )

    # Who may do what
    owner_id: uuid.UUID | None = Field(
        None, description="Owner of what the commands submit; unset: one that belongs to the data directory."
    )
    admin_user_ids: Annotated[tuple[uuid.UUID, ...], *CommaSeparated] | None = Field(
        None, description="Comma-separated users who may read /v1/admin; unset: with a local secret, the local owner."
    )
    jwt_secret: str | None = Field(
        None,
        min_length=32,
        description="HS256 secret of the tokens; unset (and no JWKS URL): one is made in the data directory.",
    )
    jwt_secret_file: AbsolutePath | None = _file_of("jwt_secret")
    jwt_previous_secret: str | None = Field(
        None,
        min_length=32,
        description="The HS256 secret before HEIMDEX_JWT_SECRET was changed; tokens that it signed stay valid.",
    )
    jwt_previous_secret_file: AbsolutePath | None = _file_of("jwt_previous_secret")
    jwt_issuer: str | None = Field(None, description="The `iss` that every token must have; unset: any or none.")
    jwt_max_lifetime_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="Longest time between `iat` and `exp` of a token, in seconds; unset: any."
    )
    jwks_url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="Public keys for ES256 and RS256 tokens; http only to 127.0.0.1, ::1 or localhost.",
    )
    cors_origins: Annotated[tuple[str, ...], *CommaSeparated] = Field(
        (), description="Comma-separated origins whose pages may call the API from a browser."
    )
    allowed_schemes: Schemes = Field(
        ("file", "http", "https", "s3", "gs", "gcs", "az", "abfs"),
        description="URI schemes that the commands accept; `file` includes local paths.",
    )
    http_allowed_schemes: Schemes = Field(
        ("http", "https"), description="URI schemes that POST /v1/videos accepts, in redirects too."
    )
    http_uri_prefixes: UriPrefixes = Field(
        (),
        description="Comma-separated folders of object stores that POST /v1/videos accepts besides; "
        "`{owner}` in one (`s3://uploads/{owner}/`) is the user's id.",
    )

    private_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], *CommaSeparated] = Field(
        (),
        description="Comma-separated networks (10.0.0.0/8) that http(s) URIs may lead to although they are not public.",
    )
    submissions_per_minute: Annotated[int, Field(ge=1)] = Field(
        6000, description="Videos that one owner may submit or have tried again by HTTP within a minute."
    )
    quota_videos: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Videos that one owner may submit or have tried again within the period; unset: no limit."
    )
    quota_hours: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Hours of video that are processed for one owner within the period; unset: no limit."
    )
    quota_bytes: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Bytes of video that are processed for one owner within the period; unset: no limit."
    )
    quota_in_flight: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Videos of one owner that may wait or be processed at once; unset: no limit."
    )
    quota_period_h: Annotated[float, Field(gt=0, le=MOST_PERIOD_H)] = Field(
        DAY_H, description="The period of the quotas, in hours back from now."
    )
    audit_days: Annotated[int, Field(ge=30)] = Field(
        365, description="Days that entries of the audit log are kept, at least 30."
    )
    requests_per_minute: Annotated[int, Field(ge=1)] = Field(
        6000, description="HTTP requests of one owner within a minute, to each replica."
    )
    requests_at_once: Annotated[int, Field(ge=1)] = Field(
        16, description="HTTP requests of one owner that run at once in a replica; further ones wait, or are refused."
    )
    searches_per_minute: Annotated[int, Field(ge=1)] = Field(
        600, description="Searches of one owner within a minute, by each replica."
    )
    searches_at_once: Annotated[int, Field(ge=1)] = Field(
        2, description="Searches of one owner that run at once in a replica; further ones wait, or are refused."
    )
    anonymous_per_minute: Annotated[int, Field(ge=1)] = Field(
        600, description="HTTP requests without a valid token from one address within a minute, to each replica."
    )
    max_body_bytes: Annotated[int, Field(ge=1024)] = Field(8 * 1024**2, description="Largest body of an HTTP request.")
    request_timeout_s: Annotated[float, Field(gt=0)] = Field(
        30.0, description="Longest time that an HTTP request may take, in seconds."
    )

    # Models
    models: Literal["bundled"] | None = Field(
        None,
        description="`bundled`: the three models below that are not set are the bundled ones; unset: each its default.",
    )
    whisper_model: str | None = Field(
        None,
        description="faster-whisper name (`name@revision` pins it), directory or `bundled`; "
        "unset: large-v3-turbo on a GPU, small on a CPU.",
    )
    clip_model: str | None = Field(
        None,
        description="open_clip architecture, directory or `bundled`; unset: the model of the vectors that are stored, "
        f"else {GPU_CLIP_MODEL} on a GPU, {CPU_CLIP_MODEL} on a CPU.",
    )
    clip_pretrained: str | None = Field(
        None,
        description="open_clip weights of the architecture (`tag@revision` pins them); unset: those of the defaults.",
    )
    text_model: str = Field(
        "all-MiniLM-L6-v2", description="sentence-transformers name (`name@revision` pins it), directory or `bundled`."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where models run; auto: on GPUs when Ray sees any."
    )
    beam_size: Annotated[int, Field(ge=1, le=10)] = Field(5, description="Beam size of Whisper's search.")
    labels_file: AbsolutePath | None = Field(
        None, description="One zero-shot label per line, in place of the default list."
    )
    key_frame_px: Annotated[int, Field(ge=64, le=2160)] = Field(
        288, description="Short side of kept key frames; at least the vision model's input size."
    )

    # Search
    search_words_weight: Annotated[float, Field(ge=0)] = Field(
        1.0, description="Weight of the words' ranked list in the fused one; 0 leaves it out."
    )
    search_meaning_weight: Annotated[float, Field(ge=0)] = Field(
        1.0, description="Weight of the meanings' ranked list in the fused one; 0 leaves it out."
    )
    search_picture_weight: Annotated[float, Field(ge=0)] = Field(
        1.0, description="Weight of the pictures' ranked list in the fused one; 0 leaves it out."
    )

    # The cluster
    http_host: str = Field(LOOPBACK, description="Address that the HTTP endpoints bind to.")
    http_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8000, description="Port of the HTTP endpoints; 0: any free one."
    )
    http_docs: bool = Field(True, description="Whether /docs and /openapi.json are served.")
    http_connections: Annotated[int, Field(ge=16)] = Field(
        1000, description="Connections to the HTTP endpoints; beyond, the one that waits the longest gives way."
    )
    http_header_timeout_s: Annotated[float, Field(gt=0)] = Field(
        10.0, description="Longest time that the headers of an HTTP request may take to come, in seconds."
    )
    http_body_timeout_s: Annotated[float, Field(gt=0)] = Field(
        10.0, description="Longest pause within the body of an HTTP request, in seconds."
    )
    dashboard_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8265, description="Port of Ray's dashboard and job server on 127.0.0.1; 0: any free one."
    )
    ray_address: str | None = Field(
        None,
        description="An existing Ray cluster to join (`auto` on its head node); unset: `up` starts one on 127.0.0.1.",
    )
    cpus: Annotated[int, Field(ge=1)] | None = Field(
        None, description="CPUs of the Ray node that `up` starts; unset: all."
    )
    object_store_mb: Annotated[int, Field(ge=80)] = Field(
        1024, description="Ray's object store on the node that `up` starts."
    )
    media_workers: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Media workers; unset: by the cluster's CPUs."
    )
    transcribers: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Whisper workers; unset: by GPUs or CPUs."
    )
    embedders: Annotated[int, Field(ge=1)] | None = Field(None, description="Vision workers; unset: by GPUs or CPUs.")
    writers: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Workers that write scenes; unset: one per 8 media workers."
    )
    transcriber_gpus: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="Fraction of a GPU that a Whisper worker holds."
    )
    embedder_gpus: Annotated[float, Field(gt=0, le=1)] = Field(
        0.25, description="Fraction of a GPU that a vision worker holds."
    )
    work_in_flight_s: float = Field(
        1.0, gt=0, description="Seconds of expected run in flight per worker; more of them wait longer between stages."
    )
    max_in_flight: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Videos in flight at most, if short; unset: 64 per media worker."
    )
    max_in_flight_per_owner: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Videos of one owner in flight at most; unset: no limit but the fair share."
    )
    max_attempts: Annotated[int, Field(ge=1, le=20)] = Field(
        3, description="Attempts that may end in an error before a video is FAILED."
    )
    lease_s: Annotated[float, Field(ge=2)] = Field(60.0, description="A scheduler silent for so long loses its videos.")

    # What a video may be
    max_duration_s: Annotated[float, Field(gt=0)] = Field(12 * 3600.0, description="Longest video, in seconds.")
    max_pixels: Annotated[int, Field(gt=0)] = Field(7680 * 4320, description="Largest picture, width times height.")
    max_fps: Annotated[float, Field(gt=0)] = Field(240.0, description="Highest picture rate.")
    max_streams: Annotated[int, Field(ge=1)] = Field(32, description="Most streams in a file.")
    max_bytes: Annotated[int, Field(gt=0)] = Field(100 * 1024**3, description="Largest file, in bytes.")
    download_timeout_s: Annotated[float, Field(gt=0)] = Field(3600.0, description="Longest download, in seconds.")
    download_min_bytes_per_s: Annotated[int, Field(ge=0)] = Field(
        16 * 1024, description="Least rate of a download, on average over each window; 0: none."
    )
    download_window_s: Annotated[float, Field(gt=0)] = Field(
        60.0, description="Window over which a download has to keep its least rate, in seconds."
    )
    downloads_per_node: Annotated[int, Field(ge=2)] = Field(
        32, description="Downloads at once on a node; a quarter of the places is kept for owners who have none there."
    )
    downloads_per_owner: Annotated[int, Field(ge=1)] = Field(8, description="Downloads of one owner at once on a node.")
    download_owner_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="Part of a node's free disk space that one owner's downloads may take; 1: all of it."
    )

    @pydantic.model_validator(mode="before")
    @classmethod
    def _read_secrets(cls, values: dict[str, Any]) -> dict[str, Any]:
        return with_secrets_read(values, sorted(SECRETS_IN_FILES))

    @pydantic.model_validator(mode="before")
    @classmethod
    def _fill_in_models(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Weights that are set alone name an architecture too, which then is set."""
        if values.get("models") != BUNDLED:
            return values
        unset = {name for name in MODELS if values.get(name) is None}
        if values.get("clip_pretrained") is not None:
            unset.discard("clip_model")
        return {**values, **dict.fromkeys(unset, BUNDLED)}

    @pydantic.model_validator(mode="after")
    def _agree(self) -> "Settings":
        if self.database_direct_url is not None and self.database_pooler is None:
            raise ValueError("database_direct_url: set it along with database_pooler")
        if self.database_pooler is not None and self.database_url is None:
            raise ValueError("database_pooler: set it along with database_url")
        if self.storage_key is not None and not (self.storage_root or "").lower().startswith(("http://", "https://")):
            raise ValueError("storage_key: only for a storage_root that is an http(s) URL")
        if self.jwt_previous_secret is not None and self.jwt_secret in (None, self.jwt_previous_secret):
            raise ValueError("jwt_previous_secret: set it along with the new jwt_secret, which differs from it")
        if self.opensearch_password is not None and self.opensearch_user is None:
            raise ValueError("opensearch_user: set it along with opensearch_password")
        if self.opensearch_ca_file is not None and not self.opensearch_ca_file.is_file():
            raise ValueError(f"opensearch_ca_file: there is no file {self.opensearch_ca_file}")
        if self.ray_address is not None and (self.cpus is not None):
            raise ValueError("cpus: only for a Ray that `up` starts itself; unset it or ray_address")
        return self

    @pydantic.model_validator(mode="after")
    def _have_a_default_url(self) -> "Settings":
        alone = [name for name in ROLE_URLS if getattr(self, name) is not None and self.database_url is None]
        if alone:
            raise ValueError(f"{alone[0]}: set it along with database_url")
        return self

    @pydantic.model_validator(mode="after")
    def _keep_secrets_off_the_network(self) -> "Settings":
        for name, url, at_stake in (
            ("jwks_url", self.jwks_url, "the keys that tokens are trusted by"),
            ("opensearch_url", self.opensearch_password and self.opensearch_url, "HEIMDEX_OPENSEARCH_PASSWORD"),
            ("storage_root", self.storage_key and self.storage_root, "HEIMDEX_STORAGE_KEY"),
        ):
            if url and not is_protected(url):
                raise ValueError(f"{name}: {at_stake} would travel in clear text; use https off this machine")
        return self

    def __repr_args__(self) -> Any:
        """Without what could hold a secret: the whole travels to other processes, and errors there show what came."""
        return [(name, value) for name, value in super().__repr_args__() if name not in _NOT_SHOWN]

    @property
    def database_urls(self) -> DatabaseUrls | None:
        """The database's URLs as the store reads them: they say whether a pooler is in front; None: embedded."""
        if self.database_url is None:
            return None
        return DatabaseUrls(*(self._resolved(getattr(self, name) or self.database_url) for name in ROLE_URLS))

    def _resolved(self, url: str) -> str:
        if self.database_pooler is None or DatabaseUrl.read(url).pooled:
            return url
        direct = self.database_direct_url
        if direct is not None and url != self.database_url:
            direct = with_user_of(direct, url)
        return str(DatabaseUrl(url, True, direct))

    @property
    def clip_is_chosen(self) -> bool:
        """Whether the vision model was set, so that it takes a re-embedding to change it."""
        return self.clip_model is not None or self.clip_pretrained is not None

    def clip_on(self, device: str | None = None) -> tuple[str, str | None]:
        """The vision model and its weights' tag: as set, else the default where models run on ``device``.

        None: on the GPU of this machine, if it has one.
        """
        if self.clip_is_chosen:
            name = self.clip_model or CPU_CLIP_MODEL  # weights alone have always been those of this one
        else:
            name = GPU_CLIP_MODEL if (device or self._local_device()) == "cuda" else CPU_CLIP_MODEL
        return name, pretrained_of(name, self.clip_pretrained)

    def speech_on(self, device: str | None = None) -> str:
        """The speech model: as set, else the default where models run on ``device``. None: as for ``clip_on``."""
        if self.whisper_model is not None:
            return self.whisper_model
        return DEFAULT_SPEECH_MODELS[(device or self._local_device()) == "cuda"]

    def _local_device(self) -> str:
        if self.device != "auto":
            return self.device
        import torch  # here and not above: it takes seconds to import

        return "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def owner_quotas(self) -> OwnerQuotas:
        """What is processed for one owner within a period, and at once."""
        return OwnerQuotas(
            self.quota_videos, self.quota_hours, self.quota_bytes, self.quota_in_flight, self.quota_period_h
        )

    @property
    def search_engine(self) -> EngineAddress | None:
        """The engine beside Postgres that finds the scenes; None: Postgres does itself."""
        if self.opensearch_url is None:
            return None
        return EngineAddress(
            url=self.opensearch_url,
            user=self.opensearch_user,
            password=self.opensearch_password,
            ca_file=self.opensearch_ca_file,
            prefix=self.opensearch_prefix,
            shards=self.opensearch_shards,
        )

    @property
    def search_weights(self) -> dict[Retriever, float]:
        """The weight of each ranked list in the fused one."""
        return {
            Retriever.WORDS: self.search_words_weight,
            Retriever.MEANING: self.search_meaning_weight,
            Retriever.PICTURE: self.search_picture_weight,
        }

    @property
    def resolved_scenes_url(self) -> str:
        """Place that thumbnails and key frames are written to."""
        return self.scenes_url or str(self.data_dir / "scenes")

    @property
    def resolved_owner_id(self) -> uuid.UUID:
        """The owner of what the commands submit."""
        return self.owner_id or uuid.UUID(self._own("owner_id", lambda: str(uuid.uuid4())))

    @property
    def resolved_jwt_secret(self) -> str | None:
        """The HS256 secret: as set, else the data directory's own; None where only JWKS keys are trusted."""
        if self.jwt_secret or self.jwks_url:
            return self.jwt_secret
        return self._own("jwt_secret", lambda: secrets.token_urlsafe(48))

    def _own(self, name: str, make: Callable[[], str]) -> str:
        """The text of a file of the data directory that only its owner may read; made at first use."""
        path, setting = self.data_dir / name, f"{PREFIX}DATA_DIR"
        make_private_parents(path, setting)
        check_data_folder(self.data_dir)
        return make_once(path, setting, make)

    @property
    def resolved_scratch_dir(self) -> Path:
        """Directory of downloads on each node."""
        return self.scratch_dir or self.data_dir / "scratch"

    @property
    def log_config(self) -> LogConfig:
        """How the cluster's processes log."""
        return LogConfig(self.data_dir / "logs" / "events", self.log_level, self.log_format)

    @property
    def postgres_dir(self) -> Path:
        """Directory of the embedded Postgres."""
        return self.data_dir / "postgres"

    @property
    def resolved_admin_user_ids(self) -> frozenset[uuid.UUID]:
        """The admins: as set; with the data directory's own secret, its owner; else none."""
        if self.admin_user_ids is not None:
            return frozenset(self.admin_user_ids)
        local = self.jwt_secret is None and self.jwks_url is None
        return frozenset({self.resolved_owner_id}) if local else frozenset()


def pretrained_of(clip_model: str, pretrained: str | None) -> str | None:
    """The weights' tag of an open_clip model: as given, else that of the default architectures."""
    return pretrained or _DEFAULT_WEIGHTS.get(clip_model)


def load_settings(**overrides: Any) -> Settings:
    """Read the environment.

    Raises:
        ConfigurationError: a variable has a wrong value, or a HEIMDEX_ variable is no setting; it is named.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in os.environ:
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigurationError(f"{name} is not a setting{hint}")
    # A secret that is handed on replaces the file of the environment.
    unread = {name + SUFFIX: None for name in SECRETS_IN_FILES & overrides.keys()}
    try:
        return Settings(**{**unread, **overrides})
    except pydantic.ValidationError as error:
        raise ConfigurationError("; ".join(_sentence(e) for e in error.errors())) from None


def as_environment(settings: Settings) -> dict[str, str]:
    """The variables that make the same settings in another process; those that are unset are left out."""
    found: dict[str, str] = {}
    for name in settings.model_fields_set | {"data_dir"}:
        value = getattr(settings, name)
        if value is not None:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            found |= variables(name, text)
    return found


def variables(name: str, value: str) -> dict[str, str]:
    """The variables that set one setting in another process, whatever the environment there says of it."""
    variable = PREFIX + name.upper()
    return {variable: value, **({f"{variable}{SUFFIX.upper()}": ""} if name in SECRETS_IN_FILES else {})}


def database_environment(url: str) -> dict[str, str]:
    """The variables by which a process of the cluster finds the database: its own URL, and no other role's."""
    found = variables("database_url", url)
    for name in ("database_direct_url", *ROLE_URLS):
        found |= variables(name, "")
    return found


def _sentence(error: Any) -> str:
    name = str(error["loc"][0]) if error["loc"] else ""
    message = error["msg"].removeprefix("Value error, ")
    if not name:
        name, _, message = message.partition(": ")
    shown = name not in SECRETS and isinstance(error.get("input"), str | int | float)
    given = f" (it is {error['input']!r})" if shown else ""
    field = Settings.model_fields.get(name)
    about = f" — {field.description}" if field else ""
    return f"{PREFIX}{name.upper()}: {message}{given}{about}"
