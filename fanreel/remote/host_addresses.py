"""Addresses of hosts on the web, checked: none may be one that only this host or its network can reach."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

from fanreel.errors import NotAllowedError, PhotoNotFoundError, StorageAwayError

__all__ = ["is_public", "resolve"]

_AS_NUMBERS = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV

_IPV6_IN_USE = ipaddress.IPv6Network("2000::/3")
"""The IPv6 addresses in public use. Source: IANA, IPv6 Global Unicast Address Assignments."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv4 addresses as an IPv6-only network writes them. Source: RFC 6052."""


def resolve(host: str, port: int, *, private_hosts: Sequence[str], shown: str) -> tuple[str, ...]:
    """Return the addresses of a host after checking each one. Connect to these, and do not resolve the name again.

    A name with both public and private addresses is refused: which one would be connected to is not certain.

    Args:
        host: A name or an address, without brackets.
        port: The port to connect to.
        private_hosts: Hosts whose addresses may be private; see `Settings.private_hosts`.
        shown: The URL as error messages name it.

    Raises:
        NotAllowedError: One of the addresses is private.
        PhotoNotFoundError: There is no such host.
        StorageAwayError: The name cannot be resolved for now.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise StorageAwayError(f"{shown}: the name {host} cannot be resolved for now") from None
        raise PhotoNotFoundError(f"{shown}: there is no host {host}") from None
    except (UnicodeError, OSError):
        raise PhotoNotFoundError(f"{shown}: {host} cannot be the name of a host") from None
    # As numbers, with the zone of a link-local address: they can be connected to without another look at the name.
    addresses = tuple(socket.getnameinfo(address, _AS_NUMBERS)[0] for *_, address in found)
    name = host.lower().rstrip(".")
    if not {"*", name, f"{name}:{port}"} & set(private_hosts):
        for address in addresses:
            if not is_public(address):
                raise NotAllowedError(
                    f"{shown}: {host} is {address}, which is not public; "
                    f"to allow it, name the host in FANREEL_PRIVATE_HOSTS"
                )
    return addresses


def is_public(address: str) -> bool:
    """Return whether an IP address is public: it means the same host everywhere on the Internet.

    Not public are loopback, link-local (such as 169.254.169.254, the metadata service of clouds), private, shared
    (CGNAT), multicast and reserved addresses, and IPv6 addresses that contain an IPv4 address of these kinds.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv4Address):
        return found.is_global and not found.is_multicast
    if found in _NAT64:
        return is_public(str(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)))
    if found not in _IPV6_IN_USE or found.sixtofour is not None or found.teredo is not None:
        return False
    return found.is_global
