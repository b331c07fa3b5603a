"""Two hosts far from each other on one machine: network namespaces that a `Line` joins. Needs root.

The rule: whatever happens, the process that carries and the namespaces are gone afterwards.
"""

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from .line import Conditions
from .namespaces import Host

_ALLOWED = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
_ROOT = Path(__file__).resolve().parent.parent.parent
_MOST_WAITING = "10000"
"""Packets that a device keeps until the line takes them: a burst between two rounds is no loss of the line's."""


class Carrier:
    """The process that carries; `report` ends it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def report(self) -> dict[str, float]:
        """End it, and return how many packets it carried and dropped, and the seconds of a processor that took."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        told: dict[str, float] = json.loads(self._process.stdout.readline())
        return told


@contextmanager
def far_hosts(conditions: Conditions, *, congestion_control: str | None = None) -> Iterator[tuple[Host, Host, Carrier]]:
    """Make two hosts that reach each other over a line, and nobody else.

    ``congestion_control`` is TCP's on both, the machine's own unless given. The kernel lets a namespace choose only
    what every user of the machine may, so that one is allowed to all from then on.
    """
    number = secrets.token_hex(4)
    hosts = Host(f"hyperfs-{number}-a", "10.78.0.1"), Host(f"hyperfs-{number}-b", "10.78.0.2")
    devices = [f"far{number}{end}" for end in "ab"]
    command = [sys.executable, "-m", "tests.support.line_process", *devices, json.dumps(asdict(conditions))]
    if congestion_control is not None and congestion_control not in _ALLOWED.read_text().split():
        _ALLOWED.write_text(f"{_ALLOWED.read_text()} {congestion_control}")
    try:
        for host in hosts:
            _ip("netns", "add", host.name)
        with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline(), "the line's process ended before it was ready"
                for host, device in zip(hosts, devices, strict=True):
                    _ip("link", "set", device, "netns", host.name, "name", "cable")
                    _ip("-n", host.name, "link", "set", "cable", "txqueuelen", _MOST_WAITING)
                    _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", "cable")
                    for up in ("lo", "cable"):
                        _ip("-n", host.name, "link", "set", up, "up")
                    if congestion_control is not None:
                        _run(*host.wrapper, "sysctl", "-qw", f"net.ipv4.tcp_congestion_control={congestion_control}")
                yield *hosts, Carrier(process)
            finally:
                process.kill()
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "delete", host.name], check=False, stderr=subprocess.DEVNULL)


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
