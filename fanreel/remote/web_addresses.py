"""Which network addresses a source may be fetched from: none that only this host, or its network, can reach."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from fanreel.errors import NotAllowedError, PhotoNotFoundError, StorageAwayError

__all__ = ["Address", "connect", "is_public", "resolve"]

CONNECT_SECONDS = 10.0
"""For each address of a host; a server that is there answers within one or two."""

_IPV6_IN_USE = ipaddress.IPv6Network("2000::/3")
"""All that has been given out of the public IPv6 addresses. Source: IANA, IPv6 Global Unicast Address Assignments."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv4 as seen from a network without it. Source: RFC 6052."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect to, as `socket` wants it."""

    family: int
    socket_address: tuple[str, int] | tuple[str, int, int, int]


def resolve(host: str, port: int, *, private_hosts: Sequence[str], shown: str) -> tuple[Address, ...]:
    """Return the addresses of a host, each one checked: those, and not the name, are to be connected to.

    A name that has public and private addresses is refused, as the one that is tried first is anyone's guess.

    Args:
        host: Its name or address, without brackets.
        port: Its port.
        private_hosts: Hosts whose addresses may be private; see `Settings.private_hosts`.
        shown: What is fetched, for messages.

    Raises:
        NotAllowedError: Some of its addresses are private.
        PhotoNotFoundError: There is no such host.
        StorageAwayError: Nobody can tell for now.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise StorageAwayError(f"{shown}: the name {host} cannot be resolved for now") from None
        raise PhotoNotFoundError(f"{shown}: there is no host {host}") from None
    except (UnicodeError, OSError):
        raise PhotoNotFoundError(f"{shown}: there can be no host {host}") from None
    addresses = tuple(Address(family, place) for family, _, _, _, place in found)  # pyright: ignore[reportArgumentType]
    name = host.lower().rstrip(".")
    if not {"*", name, f"{name}:{port}"} & set(private_hosts):
        for address in addresses:
            if not is_public(str(address.socket_address[0])):
                raise NotAllowedError(
                    f"{shown}: {host} is {address.socket_address[0]}, which is not public; "
                    f"where it may be read, name it in FANREEL_PRIVATE_HOSTS"
                )
    return addresses


def is_public(address: str) -> bool:
    """Return whether anyone on the Internet is meant when they say this address.

    Not so loopback, link-local (among them the clouds' 169.254.169.254), private, shared (CGNAT), multicast and
    reserved ones, nor IPv4 of these kinds in the clothes of IPv6.
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


def connect(addresses: Sequence[Address], *, seconds: float) -> socket.socket:
    """Return a connection to the first of these addresses that answers.

    Args:
        addresses: At least one.
        seconds: Longest wait for each, at most `CONNECT_SECONDS`.

    Raises:
        OSError: None answers; it is the last one's.
    """
    refused: OSError = OSError("it has no address")
    for address in addresses:
        try:
            with contextlib.ExitStack() as stack:
                opened = stack.enter_context(socket.socket(address.family, socket.SOCK_STREAM))
                opened.settimeout(max(0.01, min(seconds, CONNECT_SECONDS)))
                opened.connect(address.socket_address)
                stack.pop_all()
                return opened
        except OSError as error:
            refused = error
    raise refused
