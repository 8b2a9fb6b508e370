"""Network namespaces on a bridge of their own, so that a test can cut one machine off. Linux, root."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from types import TracebackType


def run_ip(*words: str) -> None:
    """Run `ip WORDS`. Raises CalledProcessError with what it said."""
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def can_partition() -> bool:
    """Whether this process may make network namespaces here."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    try:
        with Network() as network:
            network.add()
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


class Network:
    """A bridge with namespaces on it. ip: of this side; processes outside of namespaces are reached there."""

    def __init__(self) -> None:
        self._number = random.SystemRandom().randrange(1, 250)  # several tests at once have several networks
        self.name, self.ip = f"gsv{self._number}", f"10.77.{self._number}.1"
        self._namespaces: dict[str, str] = {}  # name -> its link on this side

    def __enter__(self) -> Network:
        run_ip("link", "add", self.name, "type", "bridge")
        try:
            run_ip("addr", "add", f"{self.ip}/24", "dev", self.name)
            run_ip("link", "set", self.name, "up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def add(self) -> tuple[str, str]:
        """(ip, name) of a new namespace on the bridge."""
        number = len(self._namespaces) + 2
        name, outside, ip = f"{self.name}n{number}", f"{self.name}v{number}", f"10.77.{self._number}.{number}"
        run_ip("netns", "add", name)
        self._namespaces[name] = outside
        run_ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", name)
        run_ip("link", "set", outside, "master", self.name, "up")
        run_ip("-n", name, "addr", "add", f"{ip}/24", "dev", "eth0")
        run_ip("-n", name, "link", "set", "lo", "up")
        run_ip("-n", name, "link", "set", "eth0", "up")
        return ip, name

    def cut(self, name: str) -> None:
        """Let nothing in or out of a namespace any more."""
        run_ip("-n", name, "link", "set", "eth0", "down")

    def mend(self, name: str) -> None:
        """Undo `cut`."""
        run_ip("-n", name, "link", "set", "eth0", "up")

    def close(self) -> None:
        """Remove the namespaces and the bridge."""
        for name, link in self._namespaces.items():  # a link does not always go with its namespace
            subprocess.run(["ip", "link", "del", link], check=False, capture_output=True)
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        self._namespaces.clear()
        subprocess.run(["ip", "link", "del", self.name], check=False, capture_output=True)
