"""Changes large payloads inside a message: where their bytes are, or that they are gone."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from msgspec.structs import replace

from mesh.messages import Deliver, Function, Message, Outcomes, PutFunction, Settled, Submit
from mesh.model import Blob, Payload
from mesh.wire.payload import GONE


def without_payloads(message: Message, keys: Collection[str]) -> Message:
    """``message`` with the large payloads of these keys replaced by one that reads as damaged."""
    return with_payloads(message, lambda blob: GONE if blob.key in keys else blob)


def with_payloads(message: Message, change: Callable[[Blob], Payload]) -> Message:
    """``message`` with what ``change`` makes of each of its large payloads."""

    def changed(item: Any) -> Any:
        payload = item.payload
        return replace(item, payload=change(payload)) if isinstance(payload, Blob) else item

    match message:
        case Submit() | Deliver():
            return replace(message, tasks=[changed(task) for task in message.tasks])
        case Outcomes():
            return replace(message, outcomes=[changed(outcome) for outcome in message.outcomes])
        case Settled():
            return replace(message, settlements=[_changed_retry(changed(s), changed) for s in message.settlements])
        case PutFunction():
            return replace(message, code=changed(message.code))
        case Function(code=code) if code is not None:
            return replace(message, code=changed(code))
    raise LookupError(f"{type(message).__name__} carries no payloads")


def _changed_retry(settlement: Any, changed: Callable[[Any], Any]) -> Any:
    retry = settlement.retry
    return settlement if retry is None else replace(settlement, retry=changed(retry))
