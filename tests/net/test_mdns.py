from __future__ import annotations

import subprocess
import sys

import pytest

from mesh.messages import PROTOCOL
from mesh.net.mdns import About, Announcement, Closing

OURS = About("aaaaaaaa", "0123456789ab", "ours")


def test_an_announcement_has_no_secret_and_fits_into_one_packet():
    assert OURS.texts == {"v": str(PROTOCOL), "kid": "aaaaaaaa", "id": "0123456789ab", "mesh": "ours"}
    assert len(OURS.name) < 63


def test_who_waits_is_told_of_the_end_before_and_while_it_waits():
    told = []
    before, during, gone = Closing(), Closing(), Closing()
    before.close()
    before.watch(lambda: told.append("before"))
    during.watch(lambda: told.append("during"))
    during.close()
    during.close()
    gone.watch(lambda: told.append("gone"))
    gone.watch(None)
    gone.close()
    assert told == ["before", "during"]


def test_an_announcement_that_shows_nothing_can_be_closed():
    Announcement(OURS).close()


@pytest.mark.processes
def test_a_mesh_on_one_machine_imports_nothing_of_mdns():
    code = (
        "import sys, mesh, mesh.runtime.connection, nodes.router, nodes.worker;"
        "print({'zeroconf', 'asyncio', 'ifaddr'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
