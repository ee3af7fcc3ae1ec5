"""From settings to what may be fetched; apart from the workers' plan, so that commands need no Ray for it."""

from cluster.contracts.errors import ConfigurationError, InvalidVideo
from cluster.contracts.uri_prefixes import HttpRules, UriPrefix
from cluster.contracts.uris import web_place
from cluster.files.deadline import Pace
from cluster.files.storage import FetchLimits
from cluster.files.storage_root import StorageRoot
from cluster.settings import Settings


def fetch_limits(settings: Settings) -> FetchLimits:
    """What may be fetched, and from where. Raises ConfigurationError when the storage root is no address."""
    root = None if settings.storage_root is None else StorageRoot(settings.storage_root, settings.storage_key)
    if root is not None:
        try:
            root.uri_of("any")
            if root.is_web:
                web_place(root.url)
        except InvalidVideo as error:
            raise ConfigurationError(f"HEIMDEX_STORAGE_ROOT: {error}") from None
    return FetchLimits(
        max_bytes=settings.max_bytes,
        timeout_s=settings.download_timeout_s,
        allowed_schemes=frozenset(settings.allowed_schemes),
        private_networks=settings.private_networks,
        storage_root=root,
        pace=Pace(settings.download_min_bytes_per_s, settings.download_window_s),
        http=http_rules(settings),
    )


def http_rules(settings: Settings) -> HttpRules:
    """What may be submitted by HTTP, and fetched of it."""
    prefixes = tuple(map(UriPrefix.read, settings.http_uri_prefixes))
    return HttpRules(frozenset(settings.http_allowed_schemes), prefixes)
