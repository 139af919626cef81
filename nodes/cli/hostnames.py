"""What stands for names in options, in Celery's words.

In a node's name: %h the host's full name, %n its first part, %d the rest. In a file's name: %p the node's full name,
%n its part before the @, %h the part after it, %d the domain of that.
"""

from __future__ import annotations

import platform

import click


def node_name(template: str, host: str | None = None) -> str:
    """The name of a node; without an @ the host is added. Raises ``UsageError`` for another letter than those."""
    host = platform.node() if host is None else host
    first, _, domain = host.partition(".")
    if "@" not in template:
        template += "@%h"
    return _expand(template, {"h": host, "n": first, "d": domain})


def file_name(template: str, node: str) -> str:
    """The name of a log or pid file of a node."""
    name, _, host = node.partition("@")
    return _expand(template, {"p": node, "n": name, "h": host, "d": host.partition(".")[2]})


def _expand(template: str, values: dict[str, str]) -> str:
    head, *parts = template.split("%")
    expanded = [head]
    parts_left = iter(parts)
    for part in parts_left:
        if part == "":  # "%%"
            expanded.append("%" + next(parts_left, ""))
        elif part[0] in values:
            expanded.append(values[part[0]] + part[1:])
        else:
            known = ", ".join(f"%{letter}" for letter in sorted(values))
            raise click.UsageError(f"{template!r}: %{part[0]} stands for nothing here; known: {known}")
    return "".join(expanded)
