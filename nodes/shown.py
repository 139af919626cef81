"""What others said, made fit for a terminal and a log: nothing of it moves the cursor, turns text or forges a line."""

from __future__ import annotations

from unicodedata import category


def shown(text: str) -> str:
    """``text`` on one line, with what is not to be seen as its escape."""
    return text if text.isprintable() else "".join(map(_shown, text))


def shown_lines(text: str, indent: str = "") -> str:
    """``text`` with its lines as they are, all but the first behind ``indent``."""
    return f"\n{indent}".join(shown(line.expandtabs()) for line in text.split("\n"))


def _shown(character: str) -> str:
    if character.isprintable() or category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode()
