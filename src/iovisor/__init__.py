"""iovisor: network functions written in Python, run in the Linux kernel.

A network function (a switch, a router, a firewall, one of your own) is a Python class. It runs as ordinary Python,
which is what it means, and is compiled to eBPF for TC and XDP, which is how it is fast. The folders beside this file
are the architecture, and each one's opening essay says what it is for. This module only names the version, and
imports nothing, so that `import iovisor` costs nothing and every layer below may do it.
"""

__version__ = "0.1.0"
