"""docs/PROTOCOL.md lists exactly the verbs there are, with their fields, and says what becomes of each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from mesh import entries, model
from mesh.messages import PROTOCOL, Message, WorkerInfo
from mesh.wire import frames, functions, parts, payload

DOC = (Path(__file__).parents[2] / "docs" / "PROTOCOL.md").read_text()
VERBS = {str(kind.__struct_config__.tag): kind for kind in Message.__subclasses__()}
FATES = DOC.split("## 5.")[1]
GRAMMAR = DOC.split("## 4.")[1].split("## 5.")[0]
STRUCTS = {
    "worker-info": WorkerInfo,
    "options": model.TaskOptions,
    "task": model.TaskSpec,
    "delivery": model.Delivery,
    "settlement": model.Settlement,
    "outcome": model.Outcome,
    "extra": model.TaskExtra,
    "error": model.ErrorInfo,
    "retrying": model.Retrying,
    "code": model.FunctionCode,
    "blob": model.Blob,
    "entry": entries.Entry,
    "firing": entries.Firing,
}


def field_count(rule: str) -> int:
    """Fields of a rule: words outside of brackets, with a bracket, list or map counted once."""
    rule = re.sub(r";[^\n]*", "", rule)
    rule = re.sub(r"\[[^\]]*\]|(list|map)\([^)]*\)", "field", rule)
    return len(rule.split())


def test_every_verb_has_a_section_and_no_other_has():
    assert sorted(re.findall(r"^### (\w+)$", FATES, flags=re.M)) == sorted(VERBS)


def test_every_verb_has_a_rule_and_no_other_has():
    assert sorted(re.findall(r'^[a-z-]+ += "([A-Z_]+)"', GRAMMAR, flags=re.M)) == sorted(VERBS)


@pytest.mark.parametrize("tag", sorted(VERBS))
def test_the_rule_of_a_verb_has_all_its_fields(tag):
    rule = re.search(rf'^[a-z-]+ += "{tag}"(.*)$', GRAMMAR, flags=re.M)
    assert rule is not None
    assert field_count(rule[1]) == len(VERBS[tag].__struct_fields__)


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_the_rule_of_a_structure_has_all_its_fields(name):
    rule = re.search(rf"^{name} += (.*(?:\n {{15}}.*)*)$", GRAMMAR, flags=re.M)
    assert rule is not None
    assert field_count(rule[1]) == len(STRUCTS[name].__struct_fields__)


@pytest.mark.parametrize("tag", sorted(VERBS))
@pytest.mark.parametrize("fate", ["lost", "doubled", "late", "reordered"])
def test_every_fate_of_a_verb_is_told(tag, fate):
    section = re.split(rf"^### {tag}$", FATES, flags=re.M)[1].split("\n### ")[0]
    assert fate in " ".join(re.findall(r"\*\*([^*]+)\*\*", section)).lower(), f"{tag}: what if it is {fate}?"


def test_words_of_enumerations_are_those_of_the_model():
    words = {"ending": model.Ending, "state": model.TaskState}
    for name, kind in (*words.items(), ("catchup", get_args(entries.Catchup)), ("overlap", get_args(entries.Overlap))):
        rule = re.search(rf"^{name} += (.*)$", GRAMMAR, flags=re.M)
        assert rule is not None
        assert re.findall(r'"(\w+)"', rule[1]) == [str(member) for member in kind]


def test_numbers_are_those_of_the_code():
    assert f"version {PROTOCOL}" in DOC.splitlines()[0]
    assert f"{frames.HEADER_BYTES} octets, big-endian" in DOC
    assert f"%x{frames.MAGIC[0]:X}.{frames.MAGIC[1]:X}" in DOC
    assert f"{frames.FRAMES_MAX:,}, the envelope included" in DOC
    assert f"1*{parts.PART_BYTES_MAX}OCTET" in DOC
    assert f"and {payload.PARTS_MAX:,} parts" in DOC
    assert functions.FUNCTION_BYTES_MAX == 1 << 20 and "| a shipped function | 1 MiB |" in DOC
