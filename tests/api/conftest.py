from __future__ import annotations

import pytest


@pytest.fixture
def short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that wait look often whether there is still hope of a router."""
    for module in ("connection", "prospects"):
        monkeypatch.setattr(f"mesh.runtime.{module}.POLL_S", 0.02)
