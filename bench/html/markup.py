"""Elements as text, escaped. Pure."""

from __future__ import annotations

from html import escape


def tag(name: str, *children: str, **attributes: object) -> str:
    """An element; ``children`` are markup already. ``class_`` is ``class``, ``stroke_width`` is ``stroke-width``."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None and value != ""
    )
    return f"<{name}{written}>{''.join(children)}</{name}>"


def text(content: object) -> str:
    """Text, so that nothing in it is taken for markup."""
    return escape(str(content), quote=False)


def percent(part: float) -> str:
    """A length that grows with the width of the page; ``part`` of 1."""
    return f"{100 * part:.2f}%"


def chart(height: float, label: str, *children: str) -> str:
    """A drawing as wide as its place: lengths across are in per cent, so that text keeps its size."""
    return tag("svg", *children, class_="chart", width="100%", height=height, role="img", aria_label=label)


def label(content: str, x: str, y: float, *, anchor: str = "", class_: str = "") -> str:
    """Text in a drawing."""
    return tag("text", text(content), x=x, y=y, text_anchor=anchor, class_=class_)


def line(x1: str, y1: float, x2: str, y2: float, class_: str) -> str:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def hint(content: str) -> str:
    """What a browser shows when the pointer rests there."""
    return tag("title", text(content))


def _plain(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
