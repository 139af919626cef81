"""Where the bench runs from: a checkout of the project, or an installed package, which has no make and no history."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]


def is_checkout(root: Path = ROOT) -> bool:
    """Whether the project is there, and not only its packages."""
    return (root / "pyproject.toml").is_file()
