"""Whether an address is one of this machine's own, a public one too.

A connection to such an address stays inside the machine, past its firewall, and reaches services that are meant for
this machine alone. Which addresses may be read is ``web_source``'s.
"""

import errno
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

import psutil

_UNASSIGNED: dict[int, IPv4Address | IPv6Address] = {4: IPv4Address("192.0.2.1"), 6: IPv6Address("2001:db8::1")}
"""For documentation; no machine has them."""
_NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def is_own(address: IPv4Address | IPv6Address) -> bool:
    """Whether the kernel delivers packets for ``address`` to this machine; sends nothing.

    Raises:
        OSError: it cannot be found out, such as when no file descriptor is free.
    """
    if not _can_be_bound(address):
        return False
    if _can_be_bound(_UNASSIGNED[address.version]):  # net.ipv4.ip_nonlocal_bind: every address can be
        return address in _of_interfaces()
    return True


def _can_be_bound(address: IPv4Address | IPv6Address) -> bool:
    try:
        with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind((str(address), 0))
    except OSError as error:
        if error.errno in _NOT_HERE:
            return False
        raise
    return True


def _of_interfaces() -> set[IPv4Address | IPv6Address]:
    families = {socket.AF_INET, socket.AF_INET6}
    found = [each for interface in psutil.net_if_addrs().values() for each in interface if each.family in families]
    return {ip_address(each.address.partition("%")[0]) for each in found}
