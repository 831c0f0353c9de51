"""The Linux kernel, as this project needs it: bpf(2), rtnetlink and network namespaces, without a single
dependency.

This layer has no policy and knows nothing of network functions. It can be used alone. Two sorts of things
live here:

    describe    MapSpec, ProgramSpec, netlink requests: frozen data, made without a kernel, comparable own
    Map, Program, Link, Netlink, NetworkNamespace, Tap ...: one descriptor each, a context manager, thin

A spec plus the kernel gives an object; an object gives its descriptor back exactly once. Whatever the
kernel refuses becomes a `KernelError` which says what to do next. Nothing is logged and nothing is retried
silently.

    with temporary() as namespace, Netlink(namespace) as netlink:
        netlink.submit(interfaces.veth("p0", "p1", index=10, peer_index=11, up=True))
        with Program.load(spec) as program, Link.tcx(program, 10, Direction.INGRESS, namespace=namespace):
            ...
"""

from __future__ import annotations

from . import addresses, assembler, filesystem, interfaces, neighbours, offloads, queueing, rcu, routes
from .btf import Btf, Types
from .capabilities import Capability
from .contexts import SocketBuffer, xdp_context
from .descriptor import Descriptor, unpin
from .errors import BpfError, FeatureMissing, KernelError, NetlinkError, VerifierRejection
from .features import Feature, available, require
from .links import Attachments, Direction, Link, LinkInfo, XdpMode, attached
from .maps import Map, MapFlag, MapKind, MapSpec, Update, possible_cpus
from .monitor import Event, Monitor, Topic
from .namespaces import NetworkNamespace, temporary
from .netlink import Netlink, Request
from .programs import (
    AttachType,
    Program,
    ProgramFlag,
    ProgramInfo,
    ProgramKind,
    ProgramSpec,
    TestRun,
    statistics_enabled,
)
from .ring import RingBuffer, ring_spec
from .tap import Tap
from .tun import Tun

__all__ = [
    "AttachType", "Attachments", "BpfError", "Btf", "Capability", "Descriptor", "Direction", "Event",
    "Feature", "FeatureMissing", "KernelError", "Link", "LinkInfo", "Map", "MapFlag", "MapKind", "MapSpec",
    "Monitor", "Netlink", "NetlinkError", "NetworkNamespace", "Program", "ProgramFlag", "ProgramInfo",
    "ProgramKind", "ProgramSpec", "Request", "RingBuffer", "SocketBuffer", "Tap", "TestRun", "Topic",
    "Tun", "Types", "Update", "VerifierRejection", "XdpMode", "addresses", "assembler", "attached", "available",
    "filesystem", "interfaces", "neighbours", "offloads", "possible_cpus", "queueing", "rcu", "require", "ring_spec",
    "routes", "statistics_enabled", "temporary", "unpin", "xdp_context",
]
