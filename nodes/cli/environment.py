"""What of the environment every verb that takes part in a mesh looks at before anything else."""

from __future__ import annotations

import os

from mesh.net.keys import key_of_environment


def check_environment() -> None:
    """Raise ``ConfigError`` for a ``MESH_KEY`` that is none, also where no key is needed: it would be some day."""
    key_of_environment(os.environ)
