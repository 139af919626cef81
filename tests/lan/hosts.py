"""Hosts on one wire: network namespaces joined by a bridge, each with addresses, a home and a name of its own.

The bridge is in a namespace too, so nothing of it touches the network of this machine, and removing the namespaces
removes all. Their names have this process's id in them: what a killed run left is removed by the next one.

    with Lan() as lan:
        a, b = lan.host("a"), lan.host("b")
        up = a.start(["mesh", "up", "--lan"])
        b.run(["mesh", "status"])
        b.link(up=False)
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import psutil

from tests.cluster import wait_until

PREFIX = "taskmesh-lan"
NETWORK, NETWORK6 = "10.77.0", "fd77::"
HERE = Path(__file__).resolve().parent
REPOSITORY = Path(__file__).resolve().parents[2]
COMMANDS = {"mesh": [str(Path(sys.executable).with_name("mesh"))], "python": [sys.executable]}
STOP_S = 10.0

T = TypeVar("T")


def why_not() -> str | None:
    """Why hosts cannot be made here; None where they can."""
    if os.environ.get("CI"):
        return "hosts on a LAN are not made in CI"
    if os.geteuid() != 0:
        return "hosts on a LAN are network namespaces, which only root makes: type `sudo make lan`"
    missing = [tool for tool in ("ip", "bridge", "unshare") if shutil.which(tool) is None]
    if missing:
        return f"hosts on a LAN need {', '.join(missing)}: type `apt-get install iproute2 util-linux`"
    probe = f"{PREFIX}-{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if made.returncode != 0:
        return f"network namespaces are not allowed here: {made.stderr.strip()}"
    _ip("netns", "del", probe)
    return None


class Lan:
    """A switch and the hosts at it. Leaving it ends all their processes and removes them."""

    def __init__(self) -> None:
        remove_leftovers()
        self.place = Path(tempfile.mkdtemp(prefix="lan-", dir="/tmp"))
        self.hosts: dict[str, Host] = {}
        self.switch_namespace = f"{PREFIX}-{os.getpid()}-switch"
        _ip("netns", "add", self.switch_namespace)
        _ip(
            "-n",
            self.switch_namespace,
            "link",
            "add",
            "br0",
            "type",
            "bridge",
            "mcast_snooping",
            "0",
            "forward_delay",
            "0",
        )
        _ip("-n", self.switch_namespace, "link", "set", "br0", "up")

    def __enter__(self) -> Lan:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for host in self.hosts.values():
            host.end()
        _ip("netns", "del", self.switch_namespace)
        shutil.rmtree(self.place, ignore_errors=True)

    def host(self, name: str, *, ipv4: bool = True, ipv6: bool = True) -> Host:
        """Plug in a new host."""
        number = len(self.hosts) + 1
        host = self.hosts[name] = Host(self, name, number)
        _ip("netns", "add", host.namespace)
        _ip("-n", host.namespace, "link", "set", "lo", "up")
        self.switch("link", "add", host.port, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
        self.switch("link", "set", host.port, "master", "br0", "up")
        _run(["ip", "netns", "exec", host.namespace, sys.executable, str(HERE / "offload.py"), "eth0"])
        host.ip("link", "set", "eth0", "up")
        if ipv4:
            host.ip("addr", "add", f"{host.address}/24", "dev", "eth0")
        if ipv6:
            host.ip("addr", "add", f"{host.address6}/64", "dev", "eth0", "nodad")
        return host

    def share_key(self, first: Host) -> None:
        """Have all other hosts join the mesh of ``first``."""
        key = first.key()
        for host in self.hosts.values():
            if host is not first:
                host.run(["mesh", "join", key])

    def block_multicast(self, blocked: bool = True) -> None:
        """Have the switch pass no multicast, as many wireless ones do."""
        for host in self.hosts.values():
            host.block_multicast(blocked)

    def divide(self, *hosts: Host) -> None:
        """Move these hosts to a switch of their own: nobody is told, and no link goes down."""
        self.switch("link", "add", "br1", "type", "bridge", "mcast_snooping", "0")
        self.switch("link", "set", "br1", "up")
        for host in hosts:
            self.switch("link", "set", host.port, "master", "br1")

    def unite(self) -> None:
        """Have one switch again."""
        for host in self.hosts.values():
            self.switch("link", "set", host.port, "master", "br0")
        self.switch("link", "del", "br1")

    def switch(self, *arguments: str, tool: str = "ip") -> None:
        """``ip ARGUMENTS``, or another tool, where the bridge is."""
        _run(["ip", "netns", "exec", self.switch_namespace, tool, *arguments])

    def logs(self) -> str:
        """What all processes that were started have said."""
        started = [process for host in self.hosts.values() for process in host.processes]
        return "\n".join(f"--- {process.name}\n{process.text()}" for process in started)


class Host:
    """One host at the switch, with the interface ``eth0``."""

    def __init__(self, lan: Lan, name: str, number: int) -> None:
        self.lan = lan
        self.name = name
        self.namespace = f"{PREFIX}-{os.getpid()}-{name}"
        self.port = f"p{number}"  # of the switch
        self.address, self.address6 = f"{NETWORK}.{number}", f"{NETWORK6}{number:x}"
        self.home = lan.place / name
        (self.home / "run").mkdir(parents=True, mode=0o700)
        self.processes: list[Process] = []
        self._tap = f"t{number}"  # at the bridge, where the cable is bad
        self._cable: Process | None = None

    def environ(self, **more: str) -> dict[str, str]:
        """Nothing of this user's own: no key, no settings, no runtime directory."""
        return {
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.home / "run"),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            "LANG": "C.UTF-8",
            "MESH_FREE_BYTES_MIN": "0",
            **more,
        }

    def run(
        self,
        command: Sequence[str],
        *,
        timeout_s: float = 30.0,
        check: bool = True,
        input: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``mesh``, ``python`` or any command to its end; its output is text."""
        done = subprocess.run(
            self._command(command),
            cwd=self.home,
            env=self.environ(**(environ or {})),
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert not check or done.returncode == 0, f"{self.name}: {command} gave {done.returncode}: {done.stderr}"
        return done

    def start(self, command: Sequence[str], **environ: str) -> Process:
        """Start ``mesh``, ``python`` or any command; what it says is in its log."""
        name = f"{self.name}-{len(self.processes)}-{command[0]}"
        process = Process(name, self._command(command), self.home, self.environ(**environ), self.lan.place)
        self.processes.append(process)
        return process

    def key(self) -> str:
        """The key that this host has, as people copy it."""
        return self.run(["mesh", "key", "show", "--secret"]).stdout.strip()

    def ip(self, *arguments: str) -> None:
        """``ip ARGUMENTS`` on this host."""
        _ip("-n", self.namespace, *arguments)

    def link(self, *, up: bool) -> None:
        """Pull the cable at the switch, so that nobody is told: no FIN, no RST. The host sees its link go."""
        self.lan.switch("link", "set", self.port, "up" if up else "down")

    def silence(self, silent: bool = True) -> None:
        """Lose all that it sends and is sent, with the link up: the host does not see it."""
        self._at_bridge("state", "0" if silent else "3")

    def worsen(self, *, delay_s: float = 0.0, jitter_s: float = 0.0, loss: float = 0.0) -> None:
        """Delay each frame of this host in each direction, and lose this part of them (0.05: one in twenty)."""
        self.mend()
        command = [
            sys.executable,
            str(HERE / "bad_cable.py"),
            self.port,
            self._tap,
            *map(str, (delay_s, jitter_s, loss)),
        ]
        inside = ["ip", "netns", "exec", self.lan.switch_namespace, *command]
        self._cable = Process(f"{self.name}-cable", inside, self.lan.place, self.environ(), self.lan.place)
        self._cable.wait_said("ready")
        self.lan.switch("link", "set", self.port, "nomaster", "addrgenmode", "none")
        self.lan.switch("link", "set", self._tap, "master", "br0", "up")

    def mend(self) -> None:
        """Have a good cable again."""
        if self._cable is not None:
            self._cable.kill()  # the tap goes with it
            self._cable = None
            self.lan.switch("link", "set", self.port, "master", "br0")

    def suspend(self, suspended: bool = True) -> None:
        """Stop all processes here, as on a machine that sleeps, or have them go on."""
        for pid in _pids(self.namespace):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP if suspended else signal.SIGCONT)

    def change_address(self, address: str) -> None:
        """Have another IPv4 address, as by a new lease of DHCP."""
        self.ip("addr", "del", f"{self.address}/24", "dev", "eth0")
        self.ip("addr", "add", f"{address}/24", "dev", "eth0")
        self.address = address

    def add_interface(self, name: str, address: str) -> None:
        """One more interface, with nobody at its other end."""
        self.ip("link", "add", name, "type", "bridge")
        self.ip("link", "set", name, "up")
        self.ip("addr", "add", address, "dev", name)

    def block_multicast(self, blocked: bool = True) -> None:
        """Have the switch pass no multicast to this host."""
        self._at_bridge("mcast_flood", "off" if blocked else "on")

    def end(self) -> None:
        """End all that runs here, and the host."""
        self.mend()
        self.suspend(False)
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.end()
        _remove(self.namespace)

    def _at_bridge(self, option: str, value: str) -> None:
        end = self.port if self._cable is None else self._tap
        self.lan.switch("link", "set", "dev", end, option, value, tool="bridge")

    def _command(self, command: Sequence[str]) -> list[str]:
        # Each of them is replaced by the next: the process that is started is the command.
        named = ["sh", "-c", 'echo "$0" > /proc/sys/kernel/hostname && exec "$@"', self.name]
        plain = [*COMMANDS.get(command[0], [command[0]]), *command[1:]]
        return ["ip", "netns", "exec", self.namespace, "unshare", "--uts", *named, *plain]


class Process:
    """A command that runs on a host."""

    def __init__(self, name: str, command: Sequence[str], cwd: Path, environ: dict[str, str], logs: Path) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                command, cwd=cwd, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.pid = self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def text(self) -> str:
        """What it has said so far."""
        return self.log.read_text(errors="replace")

    def wait_said(self, what: str, within_s: float = 20.0) -> str:
        """All that it said, once that matches the pattern ``what``."""

        def said() -> str | None:
            text = self.text()
            if re.search(what, text):
                return text
            assert self.is_running, f"{self.name} ended before it said {what!r}: {text}"
            return None

        found = wait_until(said, within_s, f"{self.name} says {what!r}: {self.text()}")
        assert found is not None
        return found

    def kill(self) -> None:
        """kill -9, and those it started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        if self.is_running:
            self._process.send_signal(signal.SIGTERM)

    def wait(self, within_s: float = STOP_S) -> int:
        """The exit code."""
        return self._process.wait(within_s)

    def end(self) -> None:
        """SIGTERM, and SIGKILL where that is not enough."""
        self.terminate()
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            self.kill()


def remove_leftovers() -> None:
    """Remove what runs that were killed have left, processes included."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    for name, pid in re.findall(rf"^({PREFIX}-(\d+)-\S+)", listed, re.MULTILINE):
        if not psutil.pid_exists(int(pid)):
            _remove(name)


def _remove(namespace: str) -> None:
    for pid in _pids(namespace):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _ip("netns", "del", namespace)


def _pids(namespace: str) -> list[int]:
    inside = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True).stdout
    return [int(pid) for pid in inside.split()]


def _ip(*arguments: str) -> None:
    _run(["ip", *arguments])


def _run(command: Sequence[str]) -> Any:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done
