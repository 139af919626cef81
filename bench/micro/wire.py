"""Messages and payloads to bytes and back, a thousand tasks to a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.micro.inputs import BATCH, CALL, OPTIONS, RESULT, outcome, settled, specs, submits
from bench.micro.stopwatch import Stopwatch
from mesh.messages import Deliver, Message, Outcomes
from mesh.model import Delivery
from mesh.wire.codec import decode_from_node, decode_from_router, encode
from mesh.wire.payload import decode, decode_call, encode_call
from mesh.wire.payload import encode as encode_result


def run_codec(tasks: int, watch: Stopwatch) -> None:
    """Encode and decode each of the four verbs that carry tasks."""
    some = specs(BATCH)
    cases: list[tuple[str, Message, Callable[..., Any]]] = [
        ("SUBMIT", next(submits(BATCH)), decode_from_node),
        ("DELIVER", Deliver({1: OPTIONS}, [Delivery(s.id, 1, 1, s.payload) for s in some]), decode_from_router),
        ("SETTLED", settled(1, some), decode_from_node),
        ("OUTCOMES", Outcomes([outcome(s.id) for s in some]), decode_from_router),
    ]
    for verb, message, decode_frames in cases:
        for _ in range(tasks // BATCH):
            frames = watch.call(f"encode {verb}", encode, message, 1, 1)
            watch.call(f"decode {verb}", decode_frames, frames)


def run_payload(tasks: int, watch: Stopwatch) -> None:
    """Arguments and results of no-op tasks, one by one as in life."""

    def repeat(function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        for _ in range(BATCH):
            function(*args, **kwargs)

    limits = {"key": "k", "inline_max": 1 << 16, "total_max": 1 << 20}
    for _ in range(tasks // BATCH):
        watch.call("encode call", repeat, encode_call, (), {}, **limits)
        watch.call("decode call", repeat, decode_call, CALL)
        watch.call("encode result", repeat, encode_result, None, **limits)
        watch.call("decode result", repeat, decode, RESULT)
