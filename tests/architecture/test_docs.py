"""The docs say what the code does. ``MESH_WRITE_DOCS=1`` writes the parts that are made from code, to be looked at."""

from __future__ import annotations

import ast
import os
import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

import mesh.settings
from mesh.api.conf import Conf
from mesh.api.result import CELERY_STATES
from mesh.api.task import CALL_OPTIONS, TASK_OPTIONS
from mesh.core.permits import may_be
from mesh.core.states import diagram
from mesh.messages import FromNode, Hello, Identify, Message, Query, SayHello, WorkerInfo
from mesh.model import FunctionCode, Role
from mesh.settings import Settings
from tests.core.make import C1, Driven, got, sent

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")])
OURS = re.compile(r"`((?:mesh|nodes|bench|tests|docs)/[\w./{},]*)`")


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def settings_table() -> str:
    """Each setting with its default and its reason, as they stand in the source."""
    source = Path(mesh.settings.__file__).read_text()
    lines = ["| setting | default | |", "|---|---|---|"]
    found = re.findall(r"^    (\w+): (?:str|int|float) = (.+?)  # (.+)$", source, re.MULTILINE)
    for name, default, reason in found:
        lines.append(f"| `{name}` | {readable(default)} | {reason} |")
    assert [name for name, *_ in found] == [f.name for f in fields(Settings)], "a setting without a reason beside it"
    return "\n".join(lines)


def verbs_table() -> str:
    """What a router lets each key do, asked of a router."""
    lines = ["| verb | a client's key | a worker's key | the whole key, own socket |", "|---|---|---|---|"]
    for verb in get_args(FromNode):
        if verb is Identify:  # is answered without a session, so to whoever came in
            continue
        for said in ("", "purge") if verb is Query else ("",):
            cells = [_allowed(verb, said, key) for key in (Role.CLIENT, Role.WORKER, Role.ADMIN)]
            assert cells[2] == _allowed(verb, said, None), "the user's own socket allows what the whole key does"
            lines.append(f"| `{verb.__struct_config__.tag}`{f' {said}' if said else ''} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _allowed(verb: type[Message], said: str, key: Role | None) -> str:
    """In sessions of which roles, of those that this key opens, the verb is taken."""
    opened = [role for role in (Role.CLIENT, Role.WORKER, Role.ROUTER) if may_be(key, role)]
    taken = [str(role) for role in opened if _is_taken(verb, said, key, role)]
    return f"as a {' or a '.join(taken)}" if taken else "no"


def _is_taken(verb: type[Message], said: str, key: Role | None, role: Role) -> bool:
    mesh = Driven()
    worker = WorkerInfo(["default"], [], 1, 1) if role is Role.WORKER else None
    hello = Hello(role, "node", "node", "3.11", "0", worker)
    before = 0 if verb is Hello else len(mesh.do(got(C1, hello, key)))
    message = hello if verb is Hello else _example(verb, said)
    answers = sent(mesh.do(got(C1, message, key)), C1)
    assert before or verb is Hello
    return not mesh.machine.counters["refused"] and not any(isinstance(answer, SayHello) for answer in answers)


def _example(verb: type[Message], said: str) -> Message:
    """A message of this verb, as empty as it may be."""
    fields = {"batch": 1, "options": [], "tasks": [], "ids": [], "request": 1, "what": said or "status"}
    fields |= {"code": FunctionCode("digest", "3.11", b""), "window": 1, "settlements": [], "attempts": []}
    fields |= {"digest": "digest", "operation": "list", "app": "app", "declared_at": 0.0, "entries": []}
    fields |= {"term": 0, "number": 1, "firings": []}
    names = verb.__struct_fields__[: len(verb.__struct_fields__) - len(verb.__struct_defaults__)]
    return verb(**{name: fields[name] for name in names})


def readable(default: str) -> str:
    """``64 << 20`` as ``64 MiB``."""
    number, shifted, bits = default.strip('"').partition(" << ")
    return f"{number} {({'10': 'KiB', '20': 'MiB', '30': 'GiB'})[bits]}" if shifted else number.replace("_", ",")


def made(text: str, begin: str, end: str, new: str) -> str:
    head, rest = text.split(begin, 1)
    return f"{head}{begin}\n{new.strip()}\n{end}{rest.split(end, 1)[1]}"


@pytest.mark.parametrize(
    ("name", "begin", "end", "make"),
    [
        ("ARCHITECTURE.md", "```mermaid", "```", diagram),
        ("SECURITY.md", "<!-- verbs -->", "<!-- end of verbs -->", verbs_table),
        ("OPERATING.md", "<!-- settings -->", "<!-- end of settings -->", settings_table),
    ],
)
def test_what_is_made_from_code_is_up_to_date(name: str, begin: str, end: str, make: object) -> None:
    assert callable(make)
    expected = made(page(name), begin, end, make())
    if os.environ.get("MESH_WRITE_DOCS"):
        (ROOT / "docs" / name).write_text(expected)
    assert page(name) == expected, f"docs/{name} is not as the code is: run this test with MESH_WRITE_DOCS=1"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_files_that_are_named_exist(path: Path) -> None:
    for name in OURS.findall(path.read_text()):
        if "{" not in name:
            assert (ROOT / name).exists(), f"{path.name} names {name}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_examples_in_python_can_be_read(path: Path) -> None:
    for example in re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL):
        ast.parse(example)


@pytest.mark.parametrize("package", ["core", "net"])
def test_every_file_that_decides_or_speaks_to_the_network_is_on_the_map(package: str) -> None:
    named = set(OURS.findall(page("ARCHITECTURE.md")))
    data = {"__init__", "commands", "events"}
    files = {f"mesh/{package}/{path.name}" for path in (ROOT / "mesh" / package).glob("*.py") if path.stem not in data}
    assert files <= named, sorted(files - named)


def test_every_option_default_and_state_is_explained() -> None:
    words = set(re.findall(r"\w+", page("TASKS.md")))
    options = {*TASK_OPTIONS.split(), *CALL_OPTIONS.split()}
    defaults = {f.name for f in fields(Conf)} - {"changed"}
    assert options | defaults | set(CELERY_STATES.values()) <= words


def test_settings_that_pages_speak_of_are_there() -> None:
    known = {f.name for f in fields(Settings)}
    for name in ("DESIGN.md", "ARCHITECTURE.md", "TASKS.md", "OPERATING.md"):
        spoken = set(re.findall(r"`(\w+_(?:s|max|min))`", page(name)))
        assert spoken - known <= {"runtime_s", "retry_backoff_max"}, name
