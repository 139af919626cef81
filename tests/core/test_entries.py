"""Which periodic tasks there are: those in the code of apps, and what people make of them."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from mesh.core.answers import ANSWERS_MAX
from mesh.core.commands import Complain
from mesh.core.events import PeerLost
from mesh.core.packing import MESSAGE_BYTES_MAX
from mesh.entries import Listing, firing_id
from mesh.messages import Declare, Entries, Refuse
from mesh.model import TaskOptions
from mesh.schedules import Every
from mesh.settings import Settings
from tests.core.make import W1, W2, WALL, hello_worker, sent
from tests.core.periodic import Periodic, ask, declare, due, entry, one

# from code


def test_the_newest_declaration_of_an_app_replaces_what_is_not_in_it() -> None:
    mesh = Periodic(entry("a"), entry("b"))
    mesh.hear(W1, declare("app", 2.0, [entry("b"), entry("c")]), wait=5.0)
    assert sorted(mesh.machine.periodic.book.entries) == ["b", "c"]
    mesh.hear(W2, declare("app", 1.5, [entry("a")]))
    assert sorted(mesh.machine.periodic.book.entries) == ["b", "c"], "of a node with older code"
    assert mesh.machine.periodic.book.entries["b"].revised_at == WALL, "what is unchanged keeps everything"
    assert mesh.machine.periodic.book.entries["c"].revised_at == WALL + 5.0


def test_how_old_the_code_is_counts_and_not_whose_clock_goes_ahead() -> None:
    mesh = Periodic()
    mesh.hear(W1, Declare("app", WALL + 9_000.0, [entry("old")], at=WALL + 9_100.0))
    mesh.hear(W2, Declare("app", WALL - 9_010.0, [entry("new")], at=WALL - 9_000.0))
    mesh.hear(W1, Declare("app", WALL + 9_000.0, [entry("old")], at=WALL + 9_105.0), wait=5.0)
    assert list(mesh.machine.periodic.book.entries) == ["new"]


def test_arguments_that_each_process_pickles_otherwise_are_no_change_of_what_is_due() -> None:
    mesh = Periodic(entry(payload=b"\x01ab"))
    mesh.do(wait=15.0)
    mesh.hear(W2, declare("app", 900.0, [entry(payload=b"\x01ba")]))
    known = mesh.machine.periodic.book.entries["e"]
    assert (known.payload, known.revised_at) == (b"\x01ba", WALL), "the newest counts, and nothing is put off"
    assert not mesh.fire(due(10.0)).reason
    assert mesh.machine.table.tasks[firing_id("e", due(10.0))].payload == b"\x01ba"
    mesh.hear(W2, declare("app", 950.0, [entry(payload=b"\x01ba", overlap="skip")]))
    assert mesh.machine.periodic.book.entries["e"].revised_at == WALL + 15.0


def test_an_entry_is_paused_and_resumed_by_code_where_that_changed_and_stays_as_people_want_it_where_not() -> None:
    mesh = Periodic(entry(paused=True))

    def is_paused(loaded_at: float, **fields: Any) -> bool:
        mesh.hear(W2, declare("app", loaded_at, [entry(**fields)]), wait=1.0)
        return mesh.machine.periodic.book.entries["e"].paused

    assert ask(mesh, "resume", "e") == {"done": ["e"]}
    assert not is_paused(1_001.0, paused=True), "the code says what it said before"
    assert not is_paused(1_002.0, paused=False)
    assert ask(mesh, "pause", "e") == {"done": ["e"]}
    assert is_paused(1_004.0, paused=False)
    assert is_paused(1_005.0, paused=True)
    assert not is_paused(1_006.0, paused=False), "the code was changed since"
    mesh.do(wait=10.0)
    assert not mesh.fire(due(20.0)).reason


def test_the_leader_is_told_of_changes() -> None:
    mesh = Periodic(entry("a"), entry("b"))
    told = one(sent(mesh.hear(W2, declare("app", 2.0, [entry("b"), entry("c")])), W1), Entries)
    assert ([e.name for e, _ in told.entries], told.gone, told.first) == (["c"], ["a"], False)


def test_the_leader_is_told_of_many_that_are_gone_in_parts_that_it_can_read() -> None:
    names = [f"{number:05}{'x' * 250}" for number in range(10_000)]
    mesh = Periodic(*map(entry, names), entry("stays"), settings=Settings(heartbeat_s=1e3, schedule_entries_max=20_000))
    told = sent(mesh.hear(W2, declare("app", 2.0, [entry("stays"), entry("new")])), W1)
    parts = [message for message in told if isinstance(message, Entries)]
    assert max(len(msgspec.msgpack.encode(part)) for part in parts) < MESSAGE_BYTES_MAX
    assert [name for part in parts for name in part.gone] == names and not any(part.first for part in parts)
    assert [told.name for part in parts for told, _ in part.entries] == ["new"]


def test_a_declaration_in_parts_counts_when_the_last_has_come() -> None:
    mesh = Periodic()
    mesh.hear(W1, declare("app", 2.0, [entry("a")], last=False))
    assert not mesh.machine.periodic.book.entries
    mesh.hear(W2, declare("app", 2.0, [entry("x")], first=False))
    assert not mesh.machine.periodic.book.entries, "its first part never came"
    mesh.hear(W1, declare("app", 2.0, [entry("b")], first=False))
    assert sorted(mesh.machine.periodic.book.entries) == ["a", "b"]


def test_a_name_belongs_to_one_app_and_more_entries_than_the_limit_are_refused_and_counted() -> None:
    mesh = Periodic(entry("a"), settings=Settings(heartbeat_s=1_000.0, schedule_entries_max=2))
    mesh.hear(W1, declare("other", 1.0, [entry("a", 3.0), entry("b"), entry("c")]))
    assert {name: e.app for name, e in mesh.machine.periodic.book.entries.items()} == {"a": "app", "b": "other"}
    assert mesh.machine.counters["entries_refused"] == 2


def test_a_declaration_in_many_parts_that_is_too_long_is_one_line_and_so_is_what_its_sender_is_told() -> None:
    mesh = Periodic(settings=Settings(heartbeat_s=1_000.0, schedule_entries_max=2))
    said: list[Any] = []
    for part in range(50):
        entries = [entry(f"{part}.{place}") for place in range(10)]
        said += mesh.hear(W1, declare("app", 2.0, entries, first=part == 0, last=part == 49))
    (line,) = (one.text for one in said if isinstance(one, Complain) and one.is_wrong)
    assert line == "app app: more entries than schedule_entries_max; refused: 498"
    told = one(sent(said, W1), Refuse)
    assert told.reason.endswith("schedule_entries_max; and 493 more of app app are not taken") and len(told.ids) == 100
    assert mesh.machine.counters["entries_refused"] == 498


def test_who_declares_an_entry_whose_name_is_taken_is_told_and_so_is_who_lists_it() -> None:
    mesh = Periodic(entry("a"))
    told = sent(mesh.hear(W2, declare("other", 1.0, [entry("a", 3.0), entry("b")])), W2)
    why = "entry 'a' of app other is not taken: app app has one of this name, and names are mesh-wide: give it another"
    assert [message for message in told if isinstance(message, Refuse)] == [Refuse("entries", why, ["a"])]
    assert ask(mesh, "list")["rivals"] == {"a": "other"}
    mesh.hear(W2, declare("other", 2.0, [entry("b")]), wait=5.0)
    assert ask(mesh, "list")["rivals"] == {}, "its code has it no more"


def test_a_rival_is_forgotten_with_the_entry_and_may_have_the_name_then() -> None:
    mesh = Periodic(entry("a"))
    mesh.hear(W2, declare("other", 1.0, [entry("a")]))
    mesh.hear(W1, declare("app", 2.0, []), wait=5.0)
    assert ask(mesh, "list") == {**ask(mesh, "list"), "entries": [], "rivals": {}}
    mesh.hear(W2, declare("other", 3.0, [entry("a")]), wait=5.0)
    assert (mesh.machine.periodic.book.entries["a"].app, ask(mesh, "list")["rivals"]) == ("other", {})


def test_of_many_that_are_refused_some_are_told_and_all_counted() -> None:
    entries = [entry(f"{number:04}") for number in range(1_000)]
    mesh = Periodic(*entries)
    (refuse,) = (m for m in sent(mesh.hear(W2, declare("other", 1.0, entries)), W2) if isinstance(m, Refuse))
    assert refuse.reason.startswith("entry '0000' of app other is not taken: ")
    assert refuse.reason.endswith("; and 995 more of app other are not taken")
    assert len(refuse.ids) == 100


def test_a_list_says_whose_task_nobody_could_run() -> None:
    mesh = Periodic(
        entry("known"),
        replace(entry("typo"), options=TaskOptions("wrok")),
        replace(entry("elsewhere"), options=TaskOptions("work", "q")),
    )
    assert ask(mesh, "list")["parked"] == {
        "typo": "no worker has this task",
        "elsewhere": "no worker serves its queue",
    }
    done = ask(mesh, "add", entries=[replace(entry("new"), options=TaskOptions("later"))])
    assert done == {"done": ["new"], "parked": {"new": "no worker has this task"}}
    mesh.hear(W2, hello_worker("two", window=0, tasks=["work", "wrok", "later"], queues=["default", "q"]))
    assert ask(mesh, "list")["parked"] == {}
    for peer in (W1, W2):
        mesh.do(PeerLost(peer))
    assert ask(mesh, "list")["parked"] == {}, "nobody leads, so nothing waits"


# from people


def test_entries_are_added_changed_paused_resumed_and_removed_at_run_time() -> None:
    mesh = Periodic(entry("code"))
    assert ask(mesh, "add", entries=[entry("e")]) == {"done": ["e"]}
    assert "already" in ask(mesh, "add", entries=[entry("e")])["error"]
    assert ask(mesh, "pause", "e") == {"done": ["e"]}
    mesh.do(wait=20.0)
    assert mesh.fire(due(10.0)).reason == "entry 'e': it is paused"
    assert ask(mesh, "resume", "e") == {"done": ["e"]}
    assert mesh.fire(due(20.0)).positions == [("e", due(20.0))], "what was due meanwhile does not count"
    assert ask(mesh, "update", entries=[entry("e", 7.0)]) == {"done": ["e"]}
    assert [entry[0] for entry, position in ask(mesh, "list")["entries"]] == ["code", "e"]
    assert ask(mesh, "remove", "e") == {"done": ["e"]}
    assert "no entry" in ask(mesh, "remove", "e")["error"]
    assert "unknown operation" in ask(mesh, "odd")["error"]


def test_a_list_that_is_too_long_for_a_message_goes_on_in_the_next_and_says_who_leads() -> None:
    names = [f"{number:04} {'x' * 200}" for number in range(2_000)]
    mesh = Periodic(*(entry(name) for name in names))
    parts = [msgspec.convert(ask(mesh, "list"), Listing)]
    while parts[-1].next:
        parts.append(msgspec.convert(ask(mesh, "list_from", parts[-1].next), Listing))
    assert [shown.name for part in parts for shown, _ in part.entries] == names and len(parts) > 1
    assert {(part.leader, part.term) for part in parts} == {("one", mesh.term)}


def test_an_update_of_what_was_changed_meanwhile_is_refused() -> None:
    mesh = Periodic(entry())
    before = mesh.machine.periodic.book.entries["e"]
    mesh.do(wait=1.0)
    assert ask(mesh, "update", entries=[replace(before, jitter_s=1.0)]) == {"done": ["e"]}
    assert ask(mesh, "update", entries=[replace(before, overlap="skip")])["code"] == "changed"
    now = mesh.machine.periodic.book.entries["e"]
    assert (now.jitter_s, now.overlap) == (1.0, "allow")


def test_of_two_changes_of_its_arguments_at_a_time_one_is_refused() -> None:
    mesh = Periodic(entry())
    before = mesh.machine.periodic.book.entries["e"]
    assert ask(mesh, "update", entries=[replace(before, payload=b"a")]) == {"done": ["e"]}
    assert ask(mesh, "update", entries=[replace(before, payload=b"b")])["code"] == "changed"


def test_of_several_that_do_not_all_find_room_or_are_not_all_right_none_is_added() -> None:
    mesh = Periodic(entry("code"), settings=Settings(heartbeat_s=1_000.0, schedule_entries_max=2))
    answer = ask(mesh, "add", entries=[entry("a"), entry("b")])
    why = "1 of schedule_entries_max = 2 entries are there: 2 more find no room"
    assert answer == {"code": "overloaded", "error": why}
    shipped = replace(entry("b"), options=TaskOptions("work", function="digest"))
    assert ask(mesh, "add", entries=[shipped])["code"] == "refused", "there is room"
    assert ask(mesh, "update", entries=[entry("code", 3.0), replace(shipped, name="code")])["code"] == "refused"
    (code,) = mesh.machine.periodic.book.entries.values()
    assert (code.name, code.schedule) == ("code", Every(10.0))
    assert ask(mesh, "add", entries=[entry("a")]) == {"done": ["a"]}
    assert ask(mesh, "update", entries=[entry("a", 3.0)]) == {"done": ["a"]}
    assert mesh.machine.counters["entries_refused"] == 4


def test_who_asks_again_is_answered_as_before_and_nothing_is_done_twice() -> None:
    mesh = Periodic(entry("code"))
    asked: dict[str, dict[str, Any]] = {
        "add": {"entries": [entry("a")]},
        "update": {"entries": [replace(entry("a", 7.0), revised_at=WALL, written_at=WALL)]},
    }
    for operation, fields in asked.items():
        assert ask(mesh, operation, **fields) == ask(mesh, operation, **fields, again=True) == {"done": ["a"]}
    assert ask(mesh, "trigger", "a") == ask(mesh, "trigger", "a", again=True) and len(mesh.tasks()) == 1
    assert ask(mesh, "remove", "a") == ask(mesh, "remove", "a", again=True) == {"done": ["a"]}
    assert ask(mesh, "add", entries=[entry("code")]) == ask(mesh, "add", entries=[entry("code")], again=True)
    ask(mesh, "pause", "code")
    paused = mesh.machine.periodic.book.entries["code"]
    ask(mesh, "pause", "code", again=True)
    assert mesh.machine.periodic.book.entries["code"] is paused


def test_answers_are_remembered_as_far_as_there_is_room() -> None:
    mesh = Periodic()
    ask(mesh, "add", entries=[entry("a")])
    for _ in range(ANSWERS_MAX):
        ask(mesh, "pause", "a")
    mesh.requests = 1
    assert ask(mesh, "add", entries=[entry("a")], again=True)["code"] == "exists"
