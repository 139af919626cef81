"""``app.control``: what Celery has there, as far as it means something here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mesh.api.hints import explain_absent
from mesh.api.options import checked_text

if TYPE_CHECKING:
    from mesh.api.app import Mesh


class Control:
    """Changes the fate of tasks that are under way."""

    def __init__(self, app: Mesh) -> None:
        self._app = app

    def revoke(self, task_id: str | Iterable[str], terminate: bool = False, signal: str = "SIGKILL") -> None:
        """Cancel tasks that have not started; with ``terminate`` also those that run, by ``signal``.

        Nothing is said of those that are finished, or that nobody knows: they stay as they are.
        """
        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        checked = [checked_text("task_id", each, 255) for each in ids]
        self._app.connection.cancel(checked, bool(terminate), checked_text("signal", signal, 20))

    def terminate(self, task_id: str | Iterable[str], signal: str = "SIGKILL") -> None:
        """Cancel tasks, also those that run."""
        self.revoke(task_id, True, signal)

    def purge(self) -> int:
        """Cancel everything that waits in any queue; how many tasks it was."""
        return self._app.purge()


explain_absent(Control)
