"""What of the environment every verb that takes part in a mesh looks at before anything else."""

from __future__ import annotations

import difflib
import os

from mesh.net.keys import key_of_environment
from mesh.settings import VARIABLES
from nodes.cli.invocation import Invocation


def check_environment(invocation: Invocation) -> None:
    """Say which variables are none of ours. Raises ``ConfigError`` for a ``MESH_KEY`` that is none.

    Also where no key is needed: it would be some day.
    """
    key_of_environment(os.environ)
    if invocation.supervised:  # its supervisor has said so
        return
    for name in sorted(os.environ):
        if name.startswith("MESH_") and name not in VARIABLES:
            near = difflib.get_close_matches(name, VARIABLES, 1)
            invocation.note(f"{name} is no setting" + (f"; did you mean {near[0]}?" if near else ""))
