"""The bytes of protocol 1 do not change by accident."""

from __future__ import annotations

import json

import pytest

from mesh.messages import PROTOCOL
from mesh.wire import codec
from tests.wire import golden
from tests.wire.strategies import verbs

STORED = json.loads(golden.FILE.read_text())


def test_there_is_an_example_of_every_verb():
    assert PROTOCOL == 1, "a new protocol needs a golden file of its own"
    assert set(golden.EXAMPLES) == set(STORED)
    assert {tag.partition(" ")[0] for tag in set(STORED) - golden.OLDER} == set(verbs())


@pytest.mark.parametrize("tag", sorted(set(STORED) - golden.OLDER))
def test_a_message_has_the_bytes_it_always_had(tag):
    assert golden.encoded()[tag] == STORED[tag]


@pytest.mark.parametrize("tag", sorted(STORED))
def test_bytes_mean_what_they_always_meant(tag):
    example = golden.EXAMPLES[tag]
    decode = codec.decode_from_node if type(example) in codec.FROM_NODE else codec.decode_from_router
    got = decode([bytes.fromhex(frame) for frame in STORED[tag]])
    assert (got.message, got.session, got.number) == (example, golden.SESSION, golden.NUMBER)
