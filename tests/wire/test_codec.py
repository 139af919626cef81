"""Messages and frames: what goes in comes out, and what nobody sent is refused."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import ProtocolError
from mesh.messages import (
    Accepted,
    Credit,
    Deliver,
    Heartbeat,
    Message,
    Outcomes,
    PutFunction,
    Settled,
    Submit,
    Watch,
    Welcome,
)
from mesh.model import (
    Blob,
    Buffer,
    Delivery,
    Ending,
    FunctionCode,
    Outcome,
    Retrying,
    Settlement,
    TaskOptions,
    TaskSpec,
    TaskState,
)
from mesh.wire import codec, frames
from mesh.wire.parts import PART_BYTES_MAX, cut
from tests.wire.strategies import any_message, messages, verbs

DECODERS = {
    **{kind: codec.decode_from_node for kind in codec.FROM_NODE},
    **{kind: codec.decode_from_router for kind in codec.FROM_ROUTER},
}
SUBMIT = Submit(1, [TaskOptions("t")], [TaskSpec("a", 0, b"x")])


def parts_of(blob: Blob) -> list[Buffer]:
    return [part for number, size in enumerate(blob.sizes) for part in cut(bytes([number % 256]) * size)]


def sent(message: Message, session: int = 7, number: int = 2**40) -> list[Buffer]:
    return codec.encode(message, session, number, parts_of)


def with_body(body: object) -> list[Buffer]:
    """Frames around anything, also what ``encode`` would never be given."""
    return [bytes(sent(Credit(1))[0])[: frames.HEADER_BYTES] + msgspec.msgpack.encode(body)]


def test_every_verb_has_a_receiver():
    assert set(verbs().values()) == {*codec.FROM_NODE, *codec.FROM_ROUTER}


@pytest.mark.parametrize("tag", sorted(verbs()))
def test_every_verb_comes_back_as_it_went(tag):
    kind = verbs()[tag]

    @given(message=messages(kind), session=st.integers(0, 2**32 - 1), number=st.integers(0, 2**64 - 1))
    def check(message, session, number):
        got = DECODERS[kind](sent(message, session, number))
        assert (got.session, got.number) == (session, number)
        assert got.message == message and type(got.message) is kind
        assert got.raw == codec.encode_body(message)
        assert [blob for blob, _ in got.blobs] == codec.blobs_of(message)
        for blob, parts in got.blobs:
            assert b"".join(parts) == b"".join(parts_of(blob))

    check()


@pytest.mark.parametrize("tag", sorted(verbs()))
def test_every_blob_of_a_verb_is_found(tag):
    @given(message=messages(verbs()[tag]))
    def check(message):
        assert codec.blobs_of(message) == blobs_anywhere_in(message)

    check()


def blobs_anywhere_in(value: object) -> list[Blob]:
    if isinstance(value, Blob):
        return [value]
    if isinstance(value, msgspec.Struct):
        value = [getattr(value, name) for name in value.__struct_fields__]
    elif isinstance(value, dict):
        value = [*value.values()]
    return [blob for item in value for blob in blobs_anywhere_in(item)] if isinstance(value, list) else []


def test_frames_may_come_as_any_kind_of_buffer():
    message = PutFunction(FunctionCode("d", "3.11", Blob("d", [5])))
    for kind in (bytes, bytearray, memoryview):
        got = codec.decode_from_node([kind(frame) for frame in sent(message)])
        assert got.message == message


def test_the_parts_of_payloads_are_not_copied():
    array = bytearray(3 * PART_BYTES_MAX)
    message = PutFunction(FunctionCode("d", "3.11", Blob("d", [len(array)])))
    envelope, *parts = codec.encode(message, 1, 1, lambda blob: cut(array))
    array[PART_BYTES_MAX] = 99
    assert parts[1][0] == 99
    got = codec.decode_from_node([envelope, *parts])
    array[PART_BYTES_MAX] = 98
    assert got.blobs[0][1][1][0] == 98


@pytest.mark.parametrize("parts_of", [None, lambda blob: None, lambda blob: {}[blob.key]])
def test_a_message_whose_payload_is_gone_is_a_lookup_error(parts_of):
    with pytest.raises(LookupError):
        codec.encode(PutFunction(FunctionCode("d", "3.11", Blob("d", [5]))), 1, 1, parts_of)


def test_a_message_of_too_many_frames_is_not_sent():
    message = PutFunction(FunctionCode("d", "3.11", Blob("d", [5])))
    with pytest.raises(ProtocolError, match="split it"):
        codec.encode(message, 1, 1, lambda blob: [b"x"] * frames.FRAMES_MAX)


def test_a_journalled_submit_is_read_again():
    assert codec.decode_body(codec.decode_from_node(sent(SUBMIT)).raw) == SUBMIT
    with pytest.raises(ProtocolError):
        codec.decode_body(codec.encode_body(Credit(1)))


def refused(frames: Sequence[Buffer], why: str) -> None:
    for decode in (codec.decode_from_node, codec.decode_from_router):
        with pytest.raises(ProtocolError, match=why):
            decode(frames)


def test_the_header_is_checked():
    good = bytes(sent(Heartbeat())[0])
    refused([], "0 frames")
    refused([b""], "truncated")
    refused([good[:15]], "truncated")
    refused([good[:16]], "truncated")
    refused([b"XX" + good[2:]], "wrong magic")
    refused([good[:2] + b"\x02" + good[3:]], "mesh speaks protocol 1, the other end 2")
    refused([good[:3] + b"\x01" + good[4:]], "flags")
    refused([good] * (frames.FRAMES_MAX + 1), "1025 frames")
    refused([good, b"x"], "1 frames too many")
    refused([good + b"\x00"], "malformed")


def test_the_header_of_another_version_can_still_be_read():
    good = bytes(sent(Heartbeat(), 5, 6)[0])
    assert frames.read_header(good[:2] + b"\x09\x01" + good[4:]) == (9, 5, 6)


def test_nodes_and_routers_have_verbs_of_their_own():
    with pytest.raises(ProtocolError):
        codec.decode_from_node(sent(Accepted([1])))
    with pytest.raises(ProtocolError):
        codec.decode_from_router(sent(Credit(1)))


BLOB = TaskSpec("a", 0, Blob("k", [10, PART_BYTES_MAX + 1]))
WITH_BLOB = Submit(1, [TaskOptions("t")], [BLOB])
TEN, REST = b"x" * 10, b"y" * PART_BYTES_MAX


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [TEN],
        [TEN, REST],
        [TEN, REST, b""],
        [TEN, b"", REST, b"z"],
        [TEN + REST, b"z"],
        [TEN, REST + b"z"],
        [TEN, REST, b"zz"],
        [TEN, REST, b"z", b"z"],
        [TEN[:9], REST, b"z"],
    ],
)
def test_parts_must_be_exactly_the_bytes_announced(parts):
    with pytest.raises(ProtocolError, match="part"):
        codec.decode_from_node([sent(WITH_BLOB)[0], *parts])


def test_a_receiver_takes_smaller_parts_than_it_would_send():
    got = codec.decode_from_node([sent(WITH_BLOB)[0], TEN[:3], TEN[3:], REST[:5], REST[5:], b"z"])
    assert [len(part) for part in got.blobs[0][1]] == [3, 7, 5, PART_BYTES_MAX - 5, 1]


def test_a_reason_is_short():
    with pytest.raises(ProtocolError) as caught:
        codec.decode_from_node(with_body(["SUBMIT", 1, [["t"]], [["x" * 10_000, 0, b""]]]))
    assert len(str(caught.value)) < 200


OPTIONS = [["t"]]


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        ["NO_SUCH_VERB"],
        ["CREDIT"],
        ["CREDIT", -1],
        ["CREDIT", "1"],
        ["CREDIT", 1.5],
        ["HEARTBEAT", math.nan],
        ["HEARTBEAT", math.inf],
        ["HEARTBEAT", -1.0],
        ["WATCH", [""]],
        ["WATCH", ["x" * 256]],
        ["WATCH", [5]],
        ["SUBMIT", 1, OPTIONS, [["", 0, b""]]],
        ["SUBMIT", 1, OPTIONS, [["x" * 256, 0, b""]]],
        ["SUBMIT", 1, OPTIONS, [["a", 1, b""]]],
        ["SUBMIT", 1, OPTIONS, [["a", -1, b""]]],
        ["SUBMIT", 1, [], [["a", 0, b""]]],
        ["SUBMIT", 1, OPTIONS, [["a", 0, b"", math.inf]]],
        ["SUBMIT", 1, OPTIONS, [["a", 0, ["k", [-1]]]]],
        ["SUBMIT", 1, OPTIONS, [["a", 0, ["k", [0]]]]],
        ["SUBMIT", 1, OPTIONS, [["a", 0, ["k", []]]]],
        ["SUBMIT", 1, OPTIONS, [["a", 0, ["k", [2**60]]]]],
        ["SUBMIT", 1, OPTIONS, [["a", 0, ["k", [1] * 2000]]]],
        ["SUBMIT", 1, OPTIONS, [["a", 0, ["", [1]]]]],
        ["SUBMIT", 1, [["t", "q", -1]], []],
        ["SUBMIT", 1, [["t", "q", 256]], []],
        ["SETTLED", 1, [["a", 1, "exploded"]]],
        ["SETTLED", 1, [["a", 1, "failed", b"", 0.0, math.nan]]],
        ["SETTLED", 1, [["a", -1, "failed"]]],
    ],
)
def test_a_router_refuses_what_no_node_may_say(body):
    with pytest.raises(ProtocolError):
        codec.decode_from_node(with_body(body))


@pytest.mark.parametrize(
    "body",
    [
        ["DELIVER", {1: ["t"]}, [["a", 2, 1, b""]]],
        ["DELIVER", {}, [["a", 0, 1, b""]]],
        ["DELIVER", {-1: ["t"]}, [["a", -1, 1, b""]]],
        ["ACCEPTED", [-1]],
        ["WELCOME", "", "n", "v", "disk"],
        ["OUTCOMES", [["a", "settled"]]],
    ],
)
def test_a_node_refuses_what_no_router_may_say(body):
    with pytest.raises(ProtocolError):
        codec.decode_from_router(with_body(body))


def test_fields_added_by_a_later_minor_version_are_ignored():
    assert codec.decode_from_node(with_body(["CREDIT", 5, "new", {"field": []}])).message == Credit(5)


def decoded_or_refused(frames: Sequence[Buffer]) -> None:
    for decode in (codec.decode_from_node, codec.decode_from_router):
        with contextlib.suppress(ProtocolError):
            decode(frames)


@given(st.lists(st.binary(max_size=200), max_size=4))
def test_random_frames_are_decoded_or_refused(chunks):
    decoded_or_refused(chunks)
    if chunks:
        header = bytes(sent(Heartbeat())[0])[: frames.HEADER_BYTES]
        decoded_or_refused([header + chunks[0], *chunks[1:]])


@given(any_message(), st.data())
def test_damaged_messages_are_decoded_or_refused(message, data):
    envelope, *parts = sent(message)
    damaged = bytearray(envelope)
    for position in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=3)):
        damaged[position] ^= 1 << data.draw(st.integers(0, 7))
    decoded_or_refused([damaged, *parts])
    decoded_or_refused([damaged[: data.draw(st.integers(0, len(damaged)))], *parts])


@pytest.mark.parametrize(
    "bomb", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 200_000]
)
def test_a_body_that_promises_too_much_is_refused(bomb):
    header = bytes(sent(Heartbeat())[0])[: frames.HEADER_BYTES]
    refused([header + bomb], "malformed")
    refused(
        [header + msgspec.msgpack.encode(["CREDIT", 1])[:-1].replace(b"\x92", b"\x93") + b"\x01" + bomb], "malformed"
    )
    refused([header + b"\x92\xa5WATCH" + bomb], "malformed")


def test_what_a_node_sends_for_each_kind_of_ending_is_understood():
    settlements = [Settlement(f"id-{ending}", 1, ending, b"r") for ending in Ending]
    settlements.append(Settlement("again", 2, Ending.RETRY, retry=Retrying(5.0, Blob("k", [3]))))
    got = codec.decode_from_node(sent(Settled(3, settlements)))
    assert got.message == Settled(3, settlements)
    assert [blob.key for blob, _ in got.blobs] == ["k"]


def test_the_order_of_parts_is_the_order_of_payloads():
    outcomes = [Outcome(str(n), TaskState.SUCCEEDED, Blob(str(n), [n]) if n % 2 else b"") for n in range(1, 8)]
    got = codec.decode_from_router(sent(Outcomes(outcomes)))
    assert [(blob.key, sum(map(len, parts))) for blob, parts in got.blobs] == [("1", 1), ("3", 3), ("5", 5), ("7", 7)]


def test_examples_used_here_are_valid():
    for message in (SUBMIT, Watch(["a"]), Heartbeat(1.0)):
        assert codec.decode_from_node(sent(message)).message == message
    for message in (Welcome("r", "n", "v", "disk"), Deliver({0: TaskOptions("t")}, [Delivery("a", 0, 1, b"")])):
        assert codec.decode_from_router(sent(message)).message == message


def numbers(kind: msgspec.inspect.Type, path: str, seen: frozenset[type]) -> Iterator[tuple[str, object, object]]:
    """Each number in a type, with its least and its greatest."""
    if isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        yield path, kind.ge, kind.le
    elif isinstance(kind, msgspec.inspect.StructType) and kind.cls not in seen:
        for field in kind.fields:
            yield from numbers(field.type, f"{path}.{field.name}", seen | {kind.cls})
    elif isinstance(kind, msgspec.inspect.UnionType):
        for one in kind.types:
            yield from numbers(one, path, seen)
    else:
        for inner in ("item_type", "key_type", "value_type"):
            if hasattr(kind, inner):
                yield from numbers(getattr(kind, inner), path, seen)
        for one in getattr(kind, "item_types", ()):
            yield from numbers(one, path, seen)


@pytest.mark.parametrize("verb", sorted(verbs()))
def test_each_number_that_a_peer_may_say_has_bounds_that_a_store_can_keep(verb: str) -> None:
    found = list(numbers(msgspec.inspect.type_info(verbs()[verb]), verb, frozenset()))

    assert [path for path, ge, le in found if ge is None or le is None] == []
    assert all(ge >= -(2**62) and le <= 2**62 for _, ge, le in found)  # type: ignore[operator]
