"""Starts and ends the processes of a measurement, by pid, and talks to those that wait for a word."""

from __future__ import annotations

import json
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import psutil

from bench.ending import started_here
from bench.room import check_room
from mesh.errors import MeshError, Unavailable

STOP_S = 10.0
ANSWER_S = 300.0  # a measurement that says nothing for so long is stuck
LOOK_S = 1.0  # between two looks at the disk

FRAMES = re.compile(r"^(?:[ \t].*|Traceback \(most recent call last\):)$", re.MULTILINE)
MODULE = re.compile(r"^(?:\w+\.)+(?=\w+: )", re.MULTILINE)
WORDS = 500
"""So much of what a process wrote last is shown."""


def last_words(text: str) -> str:
    """What a process wrote last, in one line; of tracebacks the errors alone."""
    return " ".join(MODULE.sub("", FRAMES.sub("", text)).split())[-WORDS:]


def start(module: str, arguments: Sequence[str], log: Path, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """``python -m module arguments``, all its output in ``log``."""
    command = [sys.executable, "-m", module, *arguments]
    with log.open("ab") as out:
        return subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out)


def stop(process: subprocess.Popen[Any]) -> None:
    """SIGTERM, and SIGKILL for who does not heed it."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def descendants(pid: int) -> list[psutil.Process]:
    """All processes that stem from ``pid`` and live."""
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def kill_all(processes: Sequence[psutil.Process]) -> None:
    """SIGKILL to those that still are the processes they were: a pid that was given anew is left alone."""
    for process in processes:
        try:
            process.kill()  # checks that the process is still the same
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, STOP_S)


class Talk:
    """A process that is told what to do next by lines on its standard input, and answers with lines of JSON."""

    def __init__(
        self, process: subprocess.Popen[bytes], errors: IO[bytes], name: str, environ: Mapping[str, str]
    ) -> None:
        self._process = process
        self._environ = environ
        self._errors = errors
        self._name = name
        self._rest = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def say(self, word: str = "go") -> None:
        """One line. Raises ``MeshError`` where nobody listens any more."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{word}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def answer(self, within_s: float = ANSWER_S) -> dict[str, Any]:
        """The next line. Raises ``MeshError`` when the process has ended, ``Unavailable`` when none comes in time.

        Raises ``StoreFull`` when none can come, as the router it talks to has no room.
        """
        assert self._process.stdout is not None
        deadline = time.monotonic() + within_s
        while b"\n" not in self._rest:
            patience = max(0.0, deadline - time.monotonic())
            if not select.select([self._process.stdout], [], [], min(patience, LOOK_S))[0]:
                check_room(self._environ)
                if patience <= LOOK_S:
                    raise Unavailable(f"{self._name} said nothing for {within_s:g} s")
                continue
            part = self._process.stdout.read1(1 << 20)  # type: ignore[attr-defined]
            if not part:
                raise self._ended()
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def _ended(self) -> MeshError:
        code = self._process.wait(STOP_S)
        self._errors.seek(0)
        why = last_words(self._errors.read().decode(errors="replace"))
        return MeshError(f"{self._name} ended with {code}: {why}")


@contextmanager
def talking(module: str, *arguments: object, environ: Mapping[str, str] | None = None) -> Iterator[Talk]:
    """``python -m module arguments`` for as long as it is needed: the end of its input tells it to end."""
    words = [*map(str, arguments)]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            env=started_here(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        try:
            yield Talk(process, errors, " ".join([module, *words]), environ or {})
        finally:
            assert process.stdin is not None and process.stdout is not None
            stop(process)
            process.stdin.close()
            process.stdout.close()
