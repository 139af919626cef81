"""The bytes of protocol 1, one full example of each verb, kept in a file so that a change is seen in review.

A verb that grows gets a further example, named by the verb and what is new; the one before goes to ``OLDER``.
``python -m tests.wire.golden --update-golden`` writes the file anew; do it only with a new version or new fields.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from msgspec.structs import replace

from mesh import entries, model
from mesh import messages as m
from mesh.schedules import Cron, CronLine, Every, Once
from mesh.wire import codec

FILE = Path(__file__).with_name("golden_v1.json")
SESSION, NUMBER = 7, 42
BLOB = model.Blob("blob-1", [2, 3])
PARTS = {"blob-1": [b"ab", b"cde"]}

_options = model.TaskOptions("tasks.add", "images", 9, "d1", "3.11", 1.5, True, True, 60.0)
_extra = model.TaskExtra({"trace": "t"}, "parent", "root")
_error = model.ErrorInfo("app.Broken", "it broke", "Traceback …", b"\x03p", "(1, 'a')")
_code = model.FunctionCode("d1", "3.11", b"\x03f")

_entry = entries.Entry(
    "nightly", Every(1.5), _options, b"\x04\x90", "app", "all", 5, 60.0, "queue_one", 2.5, 30.0, True, 1.7e9
)

_written = replace(_entry, written_at=1.6e9)
_of_code = replace(_written, code_paused=True)
_anew = replace(_of_code, after_us=1_600_000_000_000_000)

LEFT = model.Blob("blob-1", [2, 3], f"{'0f' * 20}.{'a1' * 8}")

OLDER = {"HELLO", "HELLO at most once", "SUBMIT", "DELIVER", "SETTLED", "OUTCOMES", "WATCH", "REFUSE", "HEARTBEAT"}
OLDER |= {"HELLO that maps", "IDENTIFY", "SUBMIT of what was left"}
OLDER |= {"WELCOME"}
OLDER |= {"HEARTBEAT of a router"}
OLDER |= {"SUBMIT of what may be elsewhere", "DELIVER of what was left", "SETTLED with what was left"}
OLDER |= {"SCHEDULE", "SCHEDULE of each kind", "DECLARE", "ENTRIES"}
OLDER |= {"DECLARE of what was written", "ENTRIES of what was written", "SCHEDULE of what was written", "GOSSIP"}
OLDER |= {f"{verb} of what code paused" for verb in ("DECLARE", "ENTRIES", "SCHEDULE", "GOSSIP")}
"""Examples from before a field was added at the end: they are read for ever, and written no more."""

_from_now = model.TaskExtra(None, None, None, True, True)

EXAMPLES: dict[str, m.Message] = {
    "SUBMIT of times from now": m.Submit(
        5,
        [_options],
        [model.TaskSpec("a", 0, LEFT, 1.7e9, 1.8e9, _from_now), model.TaskSpec("b", 0, BLOB, None, None, _extra)],
        False,
        False,
        1.6e9,
    ),
    "DELIVER of what expires": m.Deliver(
        {17: _options},
        [model.Delivery("a", 17, 2, LEFT, 1, 1, 1.8e9, _extra), model.Delivery("b", 17, 1, BLOB)],
        1.7e9,
    ),
    "SETTLED to be tried again from now": m.Settled(
        3,
        [
            model.Settlement("a", 2, model.Ending.FAILED, b"", 1.7e9, 0.5, _error),
            model.Settlement("b", 1, model.Ending.RETRY, retry=model.Retrying(1.8e9, LEFT, True)),
            model.Settlement("c", 1, model.Ending.SUCCEEDED, BLOB),
        ],
        1.7e9,
    ),
    "HELLO that maps": m.Hello("client", "node-1", "host/1", "3.11", "0.1.0", maps=True),
    "HELLO of a router": m.Hello("router", "r1", "host/1", "3.11", "0.1.0", addresses=["tcp://10.0.0.1:5000"]),
    "SUBMIT of what was left": m.Submit(
        5, [_options], [model.TaskSpec("a", 0, LEFT), model.TaskSpec("b", 0, BLOB, 1.7e9, 1.8e9, _extra)]
    ),
    "DELIVER of what was left": m.Deliver(
        {17: _options}, [model.Delivery("a", 17, 2, LEFT, 1, 1, 1.8e9, _extra), model.Delivery("b", 17, 1, BLOB)]
    ),
    "SETTLED with what was left": m.Settled(
        3,
        [
            model.Settlement("a", 2, model.Ending.FAILED, b"", 1.7e9, 0.5, _error),
            model.Settlement("b", 1, model.Ending.RETRY, retry=model.Retrying(1.8e9, LEFT)),
            model.Settlement("c", 1, model.Ending.SUCCEEDED, BLOB),
        ],
    ),
    "OUTCOMES with what was left": m.Outcomes(
        [
            model.Outcome("a", model.TaskState.SUCCEEDED, LEFT, None, "tasks.add", "images", "host/1", 2, 1, 1.70e9),
            model.Outcome("b", model.TaskState.SUCCEEDED, BLOB),
        ],
        [5],
    ),
    "HELLO at most once": m.Hello(
        "worker",
        "node-1",
        "host/1",
        "3.11",
        "0.1.0",
        m.WorkerInfo(["default", "images"], ["tasks.add"], 4, 64, [("a", 1)], {"gpu": "yes"}, ["tasks.add"]),
    ),
    "HELLO": m.Hello(
        "worker",
        "node-1",
        "host/1",
        "3.11",
        "0.1.0",
        m.WorkerInfo(["default", "images"], ["tasks.add"], 4, 64, [("a", 1)], {"gpu": "yes"}),
    ),
    "BYE": m.Bye("done"),
    "HEARTBEAT": m.Heartbeat(1.7e9, 3),
    "HEARTBEAT of a router whose store is away": m.Heartbeat(
        1.7e9, load=70_000, routers=["tcp://10.0.0.1:5000"], full="the store is away"
    ),
    "HEARTBEAT of a router": m.Heartbeat(1.7e9, load=70_000, routers=["tcp://10.0.0.1:5000"]),
    "SUBMIT": m.Submit(
        5,
        [_options, model.TaskOptions("tasks.add")],
        [
            model.TaskSpec("a", 0, BLOB, 1.7e9, 1.8e9, _extra),
            model.TaskSpec("b", 1, b"\x04\x92\x01\xa1a"),
        ],
        True,
    ),
    "SUBMIT of what may be elsewhere": m.Submit(
        5,
        [_options],
        [model.TaskSpec("a", 0, LEFT), model.TaskSpec("b", 0, BLOB, 1.7e9, 1.8e9, _extra)],
        repeated=True,
        elsewhere=True,
    ),
    "WATCH": m.Watch(["a", "b"]),
    "WATCH of own": m.Watch(["a", "b"], own=True),
    "UNWATCH": m.Unwatch(["a"], True),
    "CANCEL": m.Cancel(["a"], True, "SIGTERM"),
    "QUERY": m.Query(1, "states", ["a"]),
    "PUT_FUNCTION": m.PutFunction(_code),
    "IDENTIFY": m.Identify(),
    "IDENTIFY padded": m.Identify(b"\0" * 4),
    "IDENTITY": m.Identity("r1"),
    "WELCOME": m.Welcome("r1", "host/2", "0.1.0", "disk", ["tcp://10.0.0.1:5000"]),
    "WELCOME of one that adopted": m.Welcome("r1", "host/2", "0.1.0", "disk", [], 1, 3, {"r2": 7}, True),
    "ADOPTED": m.Adopted({"r2": 7}),
    "REFUSE": m.Refuse("version", "another protocol"),
    "REFUSE of some": m.Refuse("watched", "too many", ["a"]),
    "SAY_HELLO": m.SayHello(),
    "ACCEPTED": m.Accepted([5, 6]),
    "REJECTED": m.Rejected(7, "overloaded", "the queue is full", 2.5),
    "OUTCOMES": m.Outcomes(
        [
            model.Outcome(
                "a",
                model.TaskState.FAILED,
                BLOB,
                _error,
                "tasks.add",
                "images",
                "host/1",
                2,
                1,
                1.70e9,
                1.71e9,
                1.72e9,
                1.73e9,
                5,
                0.25,
            ),
            model.Outcome("b", model.TaskState.SUCCEEDED, b"\x01\x05"),
        ]
    ),
    "UNKNOWN": m.Unknown(["a"]),
    "REPLY": m.Reply(1, b"{}"),
    "CREDIT": m.Credit(64),
    "SETTLED": m.Settled(
        3,
        [
            model.Settlement("a", 2, model.Ending.FAILED, b"", 1.7e9, 0.5, _error),
            model.Settlement("b", 1, model.Ending.RETRY, retry=model.Retrying(1.8e9, BLOB)),
            model.Settlement("c", 1, model.Ending.SUCCEEDED, b"\x01\x05"),
        ],
    ),
    "RELEASED": m.Released([("a", 1)], True),
    "CLAIM": m.Claim([("a", 1)], True),
    "GET_FUNCTION": m.GetFunction("d1"),
    "DELIVER": m.Deliver(
        {17: _options}, [model.Delivery("a", 17, 2, BLOB, 1, 1, 1.8e9, _extra), model.Delivery("b", 17, 1, b"\x04\x90")]
    ),
    "SETTLED_ACK": m.SettledAck([3, 4]),
    "RECALL": m.Recall(8),
    "DROP": m.Drop([("a", 1)]),
    "FUNCTION": m.Function("d1", _code),
    "SHUTDOWN": m.Shutdown("upgrade"),
    "SCHEDULE": m.Schedule(2, "add", ["nightly"], [_entry]),
    "SCHEDULE of each kind": m.Schedule(
        2,
        "add",
        [],
        [
            entries.Entry(
                "c", Cron("*/5", "8-17", "mon-fri", "1", "1,7", "Europe/Paris"), model.TaskOptions("tasks.add")
            ),
            entries.Entry("l", CronLine("@daily", "UTC"), model.TaskOptions("tasks.add")),
            entries.Entry("o", Once(1.7e9), model.TaskOptions("tasks.add")),
        ],
    ),
    "ASK_LEASE": m.AskLease(False),
    "DECLARE of what was written": m.Declare("app", 1.7e9, [_written], False, True, 1.8e9),
    "ENTRIES of what was written": m.Entries(1 << 32, [(_written, 1_700_000_000_000_000)], ["gone"], True),
    "SCHEDULE of what was written": m.Schedule(2, "add", ["nightly"], [_written]),
    "GOSSIP": m.Gossip(
        [replace(_written, gone=True)],
        [entries.Position("nightly", 1_700_000_000_000_000, "a", "failed", 5, 2, 1, 0.5, 1_700_000_001_000_000)],
        {"app": 1.7e9},
        ["r1", "r2"],
        (1 << 32) + 1,
        [("nightly", 1_700_000_000_000_000)],
        (2 << 32) + 1,
    ),
    "DECLARE of what came anew": m.Declare("app", 1.7e9, [_anew], False, True, 1.8e9),
    "ENTRIES of what came anew": m.Entries(1 << 32, [(_anew, 1_700_000_000_000_000)], ["gone"], True),
    "SCHEDULE of what came anew": m.Schedule(2, "add", ["nightly"], [_anew]),
    "GOSSIP of what came anew": m.Gossip(
        [replace(_anew, gone=True)],
        [entries.Position("nightly", 1_700_000_000_000_000, "a", "failed", 5, 2, 1, 0.5, 1_700_000_001_000_000)],
        {"app": 1.7e9},
        ["r1", "r2"],
        (1 << 32) + 1,
        [("nightly", 1_700_000_000_000_000)],
        (2 << 32) + 1,
    ),
    "DECLARE of what code paused": m.Declare("app", 1.7e9, [_of_code], False, True, 1.8e9),
    "ENTRIES of what code paused": m.Entries(1 << 32, [(_of_code, 1_700_000_000_000_000)], ["gone"], True),
    "SCHEDULE of what code paused": m.Schedule(2, "add", ["nightly"], [_of_code]),
    "GOSSIP of what code paused": m.Gossip(
        [replace(_of_code, gone=True)],
        [entries.Position("nightly", 1_700_000_000_000_000, "a", "failed", 5, 2, 1, 0.5, 1_700_000_001_000_000)],
        {"app": 1.7e9},
        ["r1", "r2"],
        (1 << 32) + 1,
        [("nightly", 1_700_000_000_000_000)],
        (2 << 32) + 1,
    ),
    "DECLARE": m.Declare("app", 1.7e9, [_entry], False, True, 1.8e9),
    "FIRE": m.Fire(1 << 32, 3, [entries.Firing("nightly", 1_700_000_000_000_000, 2, True, 1.7e9)]),
    "LEASED": m.Leased(1 << 32, 10.0, 1.7e9, "host/1"),
    "ENTRIES": m.Entries(1 << 32, [(_entry, 1_700_000_000_000_000)], ["gone"], True),
    "FIRED": m.Fired(3, True, [("nightly", 1_700_000_000_000_000)], "another leads"),
}


def encoded() -> dict[str, list[str]]:
    """The frames of each example that is still written so, as hex."""
    return {
        tag: [bytes(frame).hex() for frame in codec.encode(message, SESSION, NUMBER, lambda blob: PARTS[blob.key])]
        for tag, message in EXAMPLES.items()
        if tag not in OLDER
    }


if __name__ == "__main__":
    if sys.argv[1:] != ["--update-golden"]:
        sys.exit(__doc__)
    stored = json.loads(FILE.read_text())
    FILE.write_text(json.dumps({**stored, **encoded()}, indent=1) + "\n")
