"""Numbers of things, as people read them."""

from __future__ import annotations


def number(value: float) -> str:
    """With thin groups of three: 1 234 567."""
    return f"{value:,.0f}".replace(",", " ")


def count_of(count: int, noun: str) -> str:
    """``1 task``, ``2 tasks``."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def term_text(term: int) -> str:
    """A term as people can tell it from others: how often the router was started, and the how many-th leader since."""
    return f"{term >> 32}.{term & 0xFFFFFFFF}"
