"""The handful of rtnetlink messages that a network of containers needs, so that no `ip` program has to be installed.

Every function acts on the network namespace of the calling thread. IPv4 only. Source of the formats: rtnetlink(7), linux/if_link.h.
"""

from __future__ import annotations

import os
import socket
import struct

_NLM_REQUEST, _NLM_ACK, _NLM_EXCL, _NLM_CREATE = 1, 4, 0x200, 0x400
_NLMSG_ERROR = 2
_RTM_NEWLINK, _RTM_DELLINK, _RTM_NEWADDR = 16, 17, 20
_IFF_UP = 1
_IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 3, 10, 18, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_RT_SCOPE_UNIVERSE = 0


def add_bridge(name: str) -> None:
    """Make a bridge; spanning tree is off, so its ports forward at once."""
    info = _attribute(_IFLA_LINKINFO, _attribute(_INFO_KIND, b"bridge"))
    _request(_RTM_NEWLINK, _link(0) + _attribute(_IFLA_IFNAME, name.encode() + b"\0") + info, create=True)


def add_veth(name: str, peer: str, peer_netns: int) -> None:
    """Make a pair of interfaces: `name` here, `peer` in the namespace behind the descriptor `peer_netns`."""
    other = _link(0) + _attribute(_IFLA_IFNAME, peer.encode() + b"\0") + _attribute(_IFLA_NET_NS_FD, struct.pack("=I", peer_netns))
    info = _attribute(_INFO_KIND, b"veth") + _attribute(_INFO_DATA, _attribute(_VETH_PEER, other))
    body = _link(0) + _attribute(_IFLA_IFNAME, name.encode() + b"\0") + _attribute(_IFLA_LINKINFO, info)
    _request(_RTM_NEWLINK, body, create=True)


def set_up(name: str, *, master: str = "") -> None:
    """Bring an interface up, as a port of the bridge `master` if one is given."""
    body = _link(socket.if_nametoindex(name), up=True)
    if master:
        body += _attribute(_IFLA_MASTER, struct.pack("=I", socket.if_nametoindex(master)))
    _request(_RTM_NEWLINK, body)


def delete(name: str) -> None:
    """Remove an interface (and its peer)."""
    _request(_RTM_DELLINK, _link(socket.if_nametoindex(name)))


def add_address(name: str, address: str, prefix: int) -> None:
    """Give an interface an IPv4 address."""
    raw = socket.inet_aton(address)
    mask = (1 << 32 - prefix) - 1
    broadcast = struct.pack("!I", struct.unpack("!I", raw)[0] | mask)
    head = struct.pack("=BBBBI", socket.AF_INET, prefix, 0, _RT_SCOPE_UNIVERSE, socket.if_nametoindex(name))
    body = head + _attribute(_IFA_LOCAL, raw) + _attribute(_IFA_ADDRESS, raw) + _attribute(_IFA_BROADCAST, broadcast)
    _request(_RTM_NEWADDR, body, create=True)


def _link(index: int, *, up: bool = False) -> bytes:
    flags = _IFF_UP if up else 0
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, flags)


def _attribute(kind: int, payload: bytes) -> bytes:
    length = 4 + len(payload)
    return struct.pack("=HH", length, kind) + payload + b"\0" * (-length % 4)


def _request(kind: int, body: bytes, *, create: bool = False) -> None:
    """Send one message and wait for the kernel's answer; OSError when it refuses."""
    flags = _NLM_REQUEST | _NLM_ACK | (_NLM_CREATE | _NLM_EXCL if create else 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as s:
        s.bind((0, 0))
        s.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
        answer = s.recv(65536)
    kind_back, code = struct.unpack_from("=4xH10xi", answer)
    if kind_back == _NLMSG_ERROR and code:
        raise OSError(-code, os.strerror(-code), f"rtnetlink message {kind}")
