"""The docs say what the code does. ``MESH_WRITE_DOCS=1`` writes the parts that are made from code, to be looked at."""

from __future__ import annotations

import ast
import os
import re
from dataclasses import fields
from pathlib import Path

import pytest

import mesh.settings
from mesh.api.conf import Conf
from mesh.api.result import CELERY_STATES
from mesh.api.task import CALL_OPTIONS, TASK_OPTIONS
from mesh.core.states import diagram
from mesh.settings import Settings

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


def test_every_decision_file_of_the_core_is_on_the_map() -> None:
    named = set(OURS.findall(page("ARCHITECTURE.md")))
    data = {"__init__", "commands", "events"}
    files = {f"mesh/core/{path.name}" for path in (ROOT / "mesh/core").glob("*.py") if path.stem not in data}
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
