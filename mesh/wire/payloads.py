"""Takes payloads out of a message that cannot be sent with them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from msgspec.structs import replace

from mesh.messages import Deliver, Function, Message, Outcomes
from mesh.model import Blob

GONE = b"\x00"
"""No format begins with this byte: who reads it is told that the payload is damaged."""


def without_payloads(message: Message, keys: Collection[str]) -> Message:
    """``message`` with the large payloads of these keys replaced by one that reads as damaged."""

    def emptied(item: Any) -> Any:
        payload = item.payload
        return replace(item, payload=GONE) if isinstance(payload, Blob) and payload.key in keys else item

    if isinstance(message, Deliver):
        return replace(message, tasks=[emptied(task) for task in message.tasks])
    if isinstance(message, Outcomes):
        return replace(message, outcomes=[emptied(outcome) for outcome in message.outcomes])
    if isinstance(message, Function) and message.code is not None:
        return replace(message, code=emptied(message.code))
    raise LookupError(f"{type(message).__name__} cannot be sent without its payloads")
