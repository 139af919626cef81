"""What the tests of faults take for lost, ended twice, or run again for no reason."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.lan.load import NEAR_S, Load

FAULT = (100.0, 110.0)
LATE = FAULT[1] + NEAR_S + 1


def load_of(home: Path, told: list[str], ran: list[str], stored: list[str]) -> Load:
    load = Load([SimpleNamespace(home=home)], faults=[FAULT], began=0.0)  # type: ignore[list-item]
    (home / "told").write_text("\n".join(told))
    (home / "ran").write_text("\n".join(ran))
    state = home / ".local/state/taskmesh"
    state.mkdir(parents=True)
    with closing(sqlite3.connect(state / "default.db")) as connection, connection:
        connection.execute("CREATE TABLE results (id TEXT, state TEXT)")
        connection.executemany("INSERT INTO results VALUES (?, ?)", [line.split() for line in stored])
    return load


SUBMITTED, DONE, STORED = ["submitted t 90.0"], ["done t 120.0"], ["t succeeded"]


def test_a_task_that_runs_again_next_to_a_fault_and_ends_once_is_well(tmp_path: Path) -> None:
    load = load_of(tmp_path, SUBMITTED + DONE, ["t 91.0", "t 105.0"], STORED)
    assert load.check() == "1 tasks, 1 of them run twice, 0 given up, 1 faults"


GIVEN_UP = "failed t 220.0 UnknownTask('no router knows task t: the router that accepted it is given up')"


@pytest.mark.parametrize("stored", [STORED, []])
def test_a_task_that_was_given_up_with_a_router_that_ended_for_good_is_well(tmp_path: Path, stored: list[str]) -> None:
    load = load_of(tmp_path, ["submitted t 99.5", GIVEN_UP], ["t 99.6"], stored)
    load.gone.append(FAULT[0])
    assert load.check() == "1 tasks, 0 of them run twice, 1 given up, 1 faults"


@pytest.mark.parametrize(("submitted_at", "gone"), [(90.0, [100.0]), (104.0, [100.0]), (99.5, [])])
def test_a_task_is_given_up_only_next_to_the_end_of_a_router(
    tmp_path: Path, submitted_at: float, gone: list[float]
) -> None:
    load = load_of(tmp_path, [f"submitted t {submitted_at}", GIVEN_UP], [f"t {submitted_at}"], [])
    load.gone += gone
    with pytest.raises(AssertionError, match="t: ended otherwise"):
        load.check()


@pytest.mark.parametrize(
    ("told", "ran", "stored", "why"),
    [
        (SUBMITTED, ["t 91.0"], STORED, "t: lost; ran at 91.0 s, told of nothing"),
        (SUBMITTED + DONE * 2, ["t 91.0"], STORED, "t: ended otherwise, or more than once"),
        ([*SUBMITTED, "failed t 95.0 Boom('x')"], ["t 91.0"], STORED, r"told failed Boom\('x'\) at 95.0 s"),
        ([*SUBMITTED, "wrong t 95.0"], ["t 91.0"], STORED, "told wrong at 95.0 s"),
        (SUBMITTED + DONE, [], STORED, "t: ended without having run; ran at no time"),
        (SUBMITTED + DONE, ["t 91.0"], [], "t: not what the stores say; .* stored: nothing"),
        (SUBMITTED + DONE, ["t 91.0"], [*STORED, "t failed"], "stored: failed and succeeded"),
        (DONE, ["t 91.0"], STORED, "t: nobody submitted it"),
        (SUBMITTED + DONE, ["t 91.0", "t 95.0"], STORED, "faults at 100.0-110.0 s:\nt: no fault is near 95.0 s"),
        (SUBMITTED + DONE, ["t 91.0", "t 105.0", f"t {LATE}"], STORED, f"t: no fault is near {LATE}"),
        ([*SUBMITTED, "done t 92.0"], ["t 91.0", "t 105.0"], STORED, "its client knew its end before the fault began"),
    ],
)
def test_what_is_wrong_with_a_task_is_told_with_its_id(
    tmp_path: Path, told: list[str], ran: list[str], stored: list[str], why: str
) -> None:
    load = load_of(tmp_path, told, ran, stored)
    with pytest.raises(AssertionError, match=why):
        load.check()
