"""What a type checker makes of tasks: arguments and results keep their types."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

GOOD = """
from collections.abc import Iterator
from typing import Any, assert_type
from mesh import AsyncResult, Mesh, Task

app = Mesh("typed")

@app.task
def add(a: int, b: int = 0) -> int:
    return a + b

@app.task(bind=True, queue="x", max_retries=None)
def greet(self: Task[..., Any], name: str) -> str:
    return self.name + name

@app.task(queue="x")
def plain(name: str) -> list[str]:
    return [name]

@app.task
async def fetch(url: str) -> bytes:
    return b""

def triple(n: int) -> float:
    return n * 3.0

assert_type(add.delay(1, b=2), AsyncResult[int])
assert_type(add.delay(1).get(timeout=1), int)
assert_type(add.apply_async((1,), countdown=3).get(), int)
assert_type(add(1), int)
assert_type(greet.delay("x").get(), str)
assert_type(plain.delay("x").get(), list[str])
assert_type(fetch.delay("x").get(), bytes)
assert_type(app.submit(triple, 3).get(), float)
assert_type(app.map(triple, [1, 2]), Iterator[float])
assert_type(app.gather([add.delay(1)]), list[int])
assert_type(next(app.as_completed([add.delay(1)])).get(), int)

async def main() -> None:
    assert_type(await add.delay(1), int)
"""

BAD = {
    "add.delay('x')": "arg-type",
    "add.delay()": "call-arg",
    "add.delay(1, c=2)": "call-arg",
    "greet.delay(1)": "arg-type",
    "greet.delay('a', 'b')": "call-arg",
    "app.submit(triple, 'x')": "arg-type",
    "add.delay(1).get().upper()": "attr-defined",
    "add.s(1)": "attr-defined",
}


@pytest.mark.processes
def test_types_go_through_tasks(tmp_path: Path) -> None:
    good = tmp_path / "good.py"
    good.write_text(GOOD)
    bad = tmp_path / "bad.py"
    wrong_lines = GOOD.count("\n") + 1
    bad.write_text(GOOD + "\n" + "\n".join(BAD) + "\n")

    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file=", str(good), str(bad)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )

    errors = [line for line in checked.stdout.splitlines() if ": error:" in line]
    assert not [line for line in errors if "good.py" in line], checked.stdout
    found = {int(line.split(":")[1]) - wrong_lines: line for line in errors}
    for place, (text, code) in enumerate(BAD.items(), start=1):
        assert f"[{code}]" in found.get(place, ""), f"{text}: {found.get(place)}\n{checked.stdout}{checked.stderr}"
