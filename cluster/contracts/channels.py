"""By which URLs a secret, or what is trusted, may travel: encrypted, or within this machine."""

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

_PLAIN_AUTHORITY = re.compile(r"[A-Za-z0-9.:\[\]-]+")


def is_protected(url: str) -> bool:
    """Whether a URL is https, or http to ``localhost`` or a literal loopback address.

    A name is never resolved: where it leads may change after the answer.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme != "http" or not _PLAIN_AUTHORITY.fullmatch(parts.netloc):
            return parts.scheme == "https" and host != ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
