"""``python -m bench.peers.install [NAME ...]``: an environment for each peer, and a Redis server where that may be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv

from bench.peers.catalog import ENTRANTS, ENVIRONMENTS, PEERS, REQUIREMENTS
from bench.redis_server import find_server

BY_DEFAULT = tuple(peer for peer in PEERS if peer != "ray")
"""Ray is large: it is installed when it is asked for by name."""

PACKAGE = "redis-server"


def main(names: list[str]) -> int:
    """Install what is missing; 1 if something could not be."""
    unknown = sorted(set(names) - set(PEERS))
    if unknown:
        print(f"there is no peer {', '.join(unknown)}; there are {', '.join(PEERS)}", file=sys.stderr)
        return 2
    wanted = names or list(BY_DEFAULT)
    fine = [install_peer(name) for name in wanted]
    if any(entrant.redis for entrant in ENTRANTS.values() if entrant.module in wanted):
        fine.append(install_redis())
    return 0 if all(fine) else 1


def install_peer(name: str) -> bool:
    """A virtual environment with the peer in it; the stamp is newer than the requirements once that is done."""
    directory, requirements = ENVIRONMENTS / name, REQUIREMENTS / f"{name}.txt"
    stamp = directory / ".installed"
    if stamp.exists() and stamp.stat().st_mtime >= requirements.stat().st_mtime:
        print(f"{name}: is installed")
        return True
    print(f"{name}: installing into {directory} ...", flush=True)
    venv.create(directory, with_pip=True)
    pip = [str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.run([*pip, "--requirement", str(requirements)], check=False).returncode:
        print(f"{name}: could not be installed; the comparison goes on without it", file=sys.stderr)
        return False
    stamp.touch()
    return True


def install_redis() -> bool:
    """A Redis server from the system's packages, if there is none yet and if we may."""
    if found := find_server():
        print(f"Redis: {found}")
        return True
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        how = f"`sudo apt-get install {PACKAGE}`, or whatever puts a redis-server on the path"
        print(f"Redis: not installed, and this may not be done from here: {how}", file=sys.stderr)
        return False
    print(f"Redis: installing {PACKAGE} ...", flush=True)
    quietly = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], env=quietly, check=False)
    subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", PACKAGE], env=quietly, check=False)
    if shutil.which("systemctl"):  # the bench starts servers of its own: no service is wanted
        subprocess.run(["systemctl", "disable", "--now", PACKAGE], capture_output=True, check=False)
    return find_server() is not None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
