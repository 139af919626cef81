"""What a client does: these events, exactly this list of commands."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.core.awaited import Where
from mesh.core.client import ClientMachine
from mesh.core.commands import (
    Command,
    PublishDropped,
    PublishOutcomes,
    PublishRefused,
    PublishRejected,
    PublishReply,
    PublishUnknown,
    PublishUnwatched,
    Send,
    SessionEnded,
)
from mesh.core.events import (
    Event,
    PeerHeard,
    PeerLost,
    QueryAsked,
    QueryGivenUp,
    ResultsForgotten,
    ResultsWatched,
    RouterForgotten,
    RouterFound,
    StopRequested,
    TasksCancelled,
    TasksSubmitted,
)
from mesh.core.out_batches import FUNCTIONS_MAX
from mesh.core.wishes import WISHES_MAX
from mesh.messages import (
    Accepted,
    Bye,
    Cancel,
    Heartbeat,
    Hello,
    Message,
    Outcomes,
    PutFunction,
    Query,
    Refuse,
    Rejected,
    Reply,
    SayHello,
    Schedule,
    Submit,
    Unknown,
    Unwatch,
    Watch,
    Welcome,
)
from mesh.model import FunctionCode, Outcome, Peer, Role, TaskOptions, TaskSpec, TaskState
from mesh.settings import Settings
from tests.core.make import MONO, WALL, WORK, at, got, sent, submit

R1, R2 = Peer(b"r1"), Peer(b"r2")
WELCOME = Welcome("r", "router", "0", "disk")
HELLO = Hello(Role.CLIENT, "node", "client", "", "0")
CODE = FunctionCode("digest", "3.11", b"code")


class Driven:
    """A client machine, its clock in seconds from 0, and its invariants checked after each step."""

    def __init__(self, **settings: Any) -> None:
        settings = {"heartbeat_s": 1_000.0, **settings}
        self.machine = ClientMachine("node", "client", Settings(**settings))
        self.seconds = 0.0

    def do(self, *events: Event, wait: float = 0.0) -> list[Command]:
        self.seconds += wait
        commands = self.machine.handle(events, at(self.seconds))
        self.machine.check()
        return commands

    def hear(self, *messages: Message, peer: Peer = R1, wait: float = 0.0) -> list[Command]:
        return self.do(*(got(peer, message) for message in messages), wait=wait)


def client(*peers: Peer, **settings: Any) -> Driven:
    """With a session to each of these routers, by default to one."""
    driven = Driven(**settings)
    for peer in peers or (R1,):
        driven.do(RouterFound(peer))
        driven.hear(WELCOME, peer=peer)
    return driven


def submitted(*ids: str, options: TaskOptions = WORK, **fields: Any) -> TasksSubmitted:
    return TasksSubmitted([options], [TaskSpec(i, 0, b"") for i in ids], **fields)


def outcome(task_id: str) -> Outcome:
    return Outcome(task_id, TaskState.SUCCEEDED)


# submitting


def test_a_submit_goes_to_the_router_at_once_and_is_kept_until_it_is_accepted() -> None:
    mesh = client()
    assert mesh.do(submitted("a", "b")) == [Send(R1, submit("a", "b"))]
    assert mesh.machine.unaccepted == 2
    assert mesh.hear(Accepted([1])) == []
    assert mesh.machine.unaccepted == 0


def test_outcomes_can_say_what_they_accept() -> None:
    mesh = client()
    mesh.do(submitted("a"))
    assert mesh.hear(Outcomes([outcome("a")], [1])) == [PublishOutcomes([outcome("a")])]
    assert mesh.machine.unaccepted == 0


def test_what_is_submitted_before_there_is_a_router_is_sent_when_there_is_one() -> None:
    mesh = Driven()
    assert mesh.do(submitted("a")) == []
    assert mesh.do(RouterFound(R1)) == [Send(R1, HELLO)]
    assert mesh.hear(WELCOME) == [Send(R1, submit("a"))]


def test_many_tasks_are_cut_into_batches() -> None:
    mesh = client(batch_tasks_max=2)
    ids = ["a", "b", "c", "d", "e"]
    assert sent(mesh.do(submitted(*ids))) == [submit("a", "b"), submit("c", "d", batch=2), submit("e", batch=3)]


def test_ids_that_the_user_chose_may_be_known_already() -> None:
    assert sent(client().do(submitted("a", chosen=True))) == [submit("a", repeated=True)]


def test_a_shipped_function_is_sent_once_a_session_before_the_first_task_that_needs_it() -> None:
    mesh = client()
    options = TaskOptions("f", function="digest")
    first = submit("a", options=options)
    assert sent(mesh.do(submitted("a", options=options, functions=(CODE,)))) == [PutFunction(CODE), first]
    assert sent(mesh.do(submitted("b", options=options))) == [submit("b", batch=2, options=options)]
    mesh.hear(Accepted([1]), SayHello())
    again = submit("b", batch=2, options=options, repeated=True)
    assert sent(mesh.hear(WELCOME)) == [PutFunction(CODE), again, Watch(["a"], own=True)]


def test_a_batch_whose_function_the_router_no_longer_has_is_sent_again_behind_it() -> None:
    mesh = client()
    options = TaskOptions("f", function="digest")
    mesh.do(submitted("a", options=options, functions=(CODE,)))
    mesh.hear(Accepted([1]))
    mesh.do(submitted("b", options=options), submitted("c", options=options))
    again = [submit("b", batch=2, options=options, repeated=True), submit("c", batch=3, options=options, repeated=True)]
    assert sent(mesh.hear(Rejected(2, "function", "gone"))) == [PutFunction(CODE), again[0]]
    assert sent(mesh.hear(Rejected(3, "function", "gone"))) == [PutFunction(CODE), again[1]]
    mesh.hear(Accepted([2, 3]))
    assert mesh.machine.unaccepted == 0


def test_a_router_that_forgets_a_function_at_once_is_asked_again_later_and_not_for_ever() -> None:
    mesh = client(submit_timeout_s=5.0)
    options = TaskOptions("f", function="digest")
    mesh.do(submitted("a", options=options, functions=(CODE,)))
    missing = Rejected(1, "function", "gone", 1.0)
    again = [PutFunction(CODE), submit("a", options=options, repeated=True)]
    assert sent(mesh.hear(missing, wait=6.0)) == again  # once it is sent again however late it is
    mesh = client(submit_timeout_s=5.0)
    mesh.do(submitted("a", options=options, functions=(CODE,)))
    assert sent(mesh.hear(missing)) == again
    assert sent(mesh.hear(missing)) == []
    assert sent(mesh.do(wait=1.0)) == [PutFunction(CODE), submit("a", options=options)]
    assert mesh.hear(missing, wait=4.0) == [PublishRejected(["a"], "function", "gone")]


def test_the_refusal_of_a_router_that_is_home_no_more_sends_nothing() -> None:
    mesh = client(R1, R2)
    options = TaskOptions("f", function="digest")
    mesh.do(submitted("a", options=options, functions=(CODE,)))
    assert mesh.hear(Rejected(1, "function", "gone"), peer=R2) == []
    assert mesh.machine.unaccepted == 1


# losing a router


def test_no_more_functions_are_kept_than_the_limit_and_those_that_batches_need() -> None:
    mesh = client()

    def ship(n: int) -> list[Message]:
        code = FunctionCode(f"d{n}", "3.11", b"code")
        return sent(mesh.do(submitted(f"t{n}", options=TaskOptions("f", function=f"d{n}"), functions=(code,))))

    for n in range(3 * FUNCTIONS_MAX):
        ship(n)
        if n != FUNCTIONS_MAX:  # this one is not accepted yet
            mesh.hear(Accepted([n + 1]))
    mesh.hear(SayHello())
    again = sent(mesh.hear(WELCOME))
    assert PutFunction(FunctionCode(f"d{FUNCTIONS_MAX}", "3.11", b"code")) in again
    assert len(mesh.machine._batches.functions) == FUNCTIONS_MAX
    assert isinstance(ship(0)[0], PutFunction)  # who submits it hands it over again


def test_a_result_to_be_forgotten_while_no_router_is_there_is_forgotten_by_the_next() -> None:
    mesh = client()
    mesh.do(PeerLost(R1))
    assert mesh.do(ResultsForgotten(["a"], drop=True), ResultsForgotten(["b"])) == []
    mesh.do(wait=1.0)
    assert sent(mesh.hear(WELCOME)) == [Unwatch(["a"], forget=True)]


def test_a_purge_or_cancel_asked_for_in_an_outage_meets_nothing_that_was_submitted_after_it() -> None:
    mesh = client()
    mesh.do(PeerLost(R1))
    mesh.do(submitted("before"), QueryAsked(Query(1, "purge")), TasksCancelled(["after"]))
    mesh.do(submitted("after"), QueryAsked(Query(2, "status")))
    mesh.do(wait=1.0)
    assert sent(mesh.hear(WELCOME)) == [
        submit("before"),
        Query(1, "purge"),
        Cancel(["after"]),
        submit("after", batch=2),
        Query(2, "status"),
    ]


def test_a_question_that_was_given_up_is_not_asked_later() -> None:
    mesh = client()
    mesh.do(PeerLost(R1))
    pause, remove = Schedule(3, "pause", ["e"]), Schedule(4, "remove", ["e"])
    mesh.do(*(QueryAsked(asked) for asked in (Query(1, "purge"), Query(2, "status"), pause, remove)))
    mesh.do(QueryGivenUp(1), QueryGivenUp(3))
    mesh.do(wait=1.0)
    assert sent(mesh.hear(WELCOME)) == [Query(2, "status"), remove]


def test_after_a_loss_what_is_not_accepted_is_sent_again_and_the_rest_is_watched() -> None:
    mesh = client()
    mesh.do(submitted("a"), submitted("b"))
    mesh.hear(Accepted([1]))
    assert mesh.hear(SayHello()) == [Send(R1, HELLO)]
    assert mesh.hear(WELCOME) == [Send(R1, submit("b", batch=2, repeated=True)), Send(R1, Watch(["a"], own=True))]


def test_the_outcomes_that_a_router_will_not_tell_of_are_given_up() -> None:
    mesh = client()
    mesh.do(ResultsWatched(["a", "b"]))
    assert mesh.hear(Refuse("watched", "too many", ["b", "c"])) == [PublishUnwatched(["b"], "too many")]
    assert mesh.machine.waiting == {"a": Where.ANYWHERE}


def wait_until_gone(mesh: Driven) -> list[Message]:
    """Let all but R2 be silent for three heartbeats; what R2 is told."""
    half = 1.5 * mesh.machine.settings.heartbeat_s
    told = sent(mesh.do(wait=half), R2)
    mesh.hear(Heartbeat(0.0), peer=R2)
    return told + sent(mesh.do(wait=half), R2)


def test_a_client_with_two_routers_goes_to_the_other_when_one_is_lost() -> None:
    mesh = client(R1, R2)
    mesh.do(submitted("a"))
    assert mesh.do(PeerLost(R1)) == [], "it may have accepted this, and may be back at once"
    assert mesh.do(submitted("b")) == [Send(R2, submit("b", batch=2))], "what is new goes elsewhere"
    assert mesh.machine.home == R2
    assert submit("a", repeated=True, elsewhere=True) in wait_until_gone(mesh)


def test_what_another_router_has_or_may_have_is_asked_of_that_one() -> None:
    mesh = client(R1, R2)
    mesh.do(submitted("accepted"))
    mesh.hear(Accepted([1]))
    mesh.do(submitted("sent"))
    mesh.do(PeerLost(R1))
    assert sent(mesh.do(ResultsWatched(["foreign"])), R2) == [Watch(["foreign"])]
    mesh.do(wait=1.0)
    assert sent(mesh.hear(WELCOME)) == [
        submit("sent", batch=2, repeated=True),
        Watch(["accepted"], own=True),
        Watch(["foreign"]),
    ]
    mesh.hear(Accepted([2]))
    assert mesh.machine.waiting == {"accepted": R1, "sent": R1, "foreign": Where.ANYWHERE}


def given_to_both(*ids: str) -> Driven:
    """The first router did not answer, and the second has accepted them."""
    mesh = client(R1, R2)
    mesh.do(submitted(*ids))
    mesh.do(PeerLost(R1))
    wait_until_gone(mesh)
    mesh.hear(Accepted([1]), peer=R2)
    return mesh


def test_what_two_routers_may_have_is_asked_of_both() -> None:
    mesh = given_to_both("a", "b", "c")
    assert sent(mesh.hear(WELCOME), R1) == [Watch(["a", "b", "c"], own=True)]
    assert mesh.hear(Outcomes([outcome("a")])) == [PublishOutcomes([outcome("a")])]
    assert mesh.hear(Outcomes([outcome("a"), outcome("b")]), peer=R2) == [PublishOutcomes([outcome("b")])]
    assert mesh.hear(Outcomes([outcome("b")])) == [], "the first word counts, whichever router says it"
    assert mesh.hear(Unknown(["c"])) == [], "the one that accepted it has it"
    assert sent(mesh.do(ResultsForgotten(["c"])), R1) == [Unwatch(["c"])]


def test_what_two_routers_may_have_is_unknown_when_neither_has_it() -> None:
    mesh = given_to_both("a", "b")
    mesh.hear(WELCOME)
    assert mesh.hear(Unknown(["a"]), peer=R2) == [], "it has lost it"
    assert mesh.hear(Unknown(["a", "b"])) == [PublishUnknown(["a"])]
    assert PublishUnknown(["b"], "the router that accepted it was away for 600 s and is given up") in mesh.do(
        RouterForgotten(R2)
    )


def test_a_router_that_may_have_what_another_accepts_later_is_asked_then() -> None:
    mesh = client(R1, R2)
    mesh.do(submitted("a"))
    mesh.do(PeerLost(R1))
    wait_until_gone(mesh)
    assert sent(mesh.hear(WELCOME)) == []
    assert mesh.hear(Accepted([1]), peer=R2) == [Send(R1, Watch(["a"], own=True))]


def test_a_task_is_unknown_when_no_router_knows_it() -> None:
    mesh = client(R1, R2)
    mesh.do(ResultsWatched(["a"]))
    assert mesh.hear(Unknown(["a"])) == []
    assert mesh.hear(Unknown(["a"]), peer=R2) == [PublishUnknown(["a"])]
    mesh.do(ResultsWatched(["b"]))
    mesh.do(PeerLost(R1))
    assert mesh.hear(Unknown(["b"]), peer=R2) == [], "the one that is away may have it"
    assert mesh.do(RouterForgotten(R1)) == [PublishUnknown(["b"])]


def test_a_router_that_denies_a_task_twice_in_one_message_is_heard_once() -> None:
    mesh = client(R1)
    mesh.do(ResultsWatched(["a"]))
    assert mesh.hear(Unknown(["a", "a"])) == [PublishUnknown(["a"])]


def test_a_router_that_keeps_nothing_may_know_of_a_task_until_it_is_gone() -> None:
    mesh = client(R2)
    mesh.do(RouterFound(R1))
    mesh.hear(Welcome("r1", "r1", "0", "memory"))
    mesh.do(ResultsWatched(["a"]))
    mesh.hear(SayHello())
    assert mesh.hear(Unknown(["a"]), peer=R2) == [], "its session begins anew"
    assert PublishUnknown(["a"]) in mesh.do(wait=3_000.0)


def test_what_a_router_had_accepted_that_is_given_up_is_unknown_for_that_reason_and_no_other() -> None:
    mesh = client(R1, R2, router_ttl_s=60.0)
    mesh.do(submitted("a", "b"))
    mesh.hear(Accepted([1]))
    mesh.do(ResultsWatched(["x"]))
    assert sent(mesh.do(RouterForgotten(R1, "tcp://r1:1"))) == [Watch(["a", "b"])]
    given_up = "the router that accepted it at tcp://r1:1 was away for 60 s and is given up"
    never = "never accepted, or its result is kept no longer"
    told = [PublishUnknown(["a", "b"], given_up), PublishUnknown(["x"], never)]
    assert mesh.hear(Unknown(["a", "b", "x"]), peer=R2) == told
    mesh.do(ResultsWatched(["a"]))
    assert mesh.hear(Unknown(["a"]), peer=R2) == [PublishUnknown(["a"], given_up)], "also where it is asked for again"
    mesh.do(submitted("a"), ResultsForgotten(["a"]), ResultsWatched(["a"]))
    mesh.hear(Accepted([2]), peer=R2)
    assert mesh.hear(Unknown(["a"]), peer=R2) == [PublishUnknown(["a"], never)]


def test_a_task_is_not_unknown_because_there_is_no_router_left_to_ask() -> None:
    mesh = client(R1, R2)
    mesh.do(ResultsWatched(["a"]))
    mesh.hear(Unknown(["a"]), SayHello())
    assert sent(mesh.hear(WELCOME)) == [Watch(["a"])]
    assert mesh.do(RouterForgotten(R2), RouterForgotten(R1)) == []
    assert list(mesh.machine.waiting) == ["a"]


def test_what_home_has_accepted_is_not_unknown_because_another_router_says_so() -> None:
    mesh = client(R1, R2)
    mesh.do(ResultsWatched(["a"]))
    mesh.hear(Unknown(["a"]))
    mesh.do(submitted("a"))
    mesh.hear(Accepted([1]))
    assert mesh.hear(Unknown(["a"]), peer=R2) == []
    assert mesh.do(ResultsWatched(["a"])) == [], "home tells of it anyway"
    assert mesh.do(RouterForgotten(R2)) == []
    assert mesh.hear(Outcomes([outcome("a")])) == [PublishOutcomes([outcome("a")])]


def test_what_a_lost_router_kept_in_memory_only_is_asked_of_the_others() -> None:
    mesh = Driven()
    mesh.do(RouterFound(R1), RouterFound(R2))
    mesh.hear(Welcome("r1", "r1", "0", "memory"))
    mesh.hear(WELCOME, peer=R2)
    mesh.do(submitted("a"))
    mesh.hear(Accepted([1]))
    mesh.do(PeerLost(R1))
    assert Watch(["a"]) in wait_until_gone(mesh)
    lost = "the router that accepted it is gone, and kept it in memory only"
    assert mesh.hear(Unknown(["a"]), peer=R2) == [PublishUnknown(["a"], lost)]


def test_what_runs_at_most_once_waits_for_the_router_it_was_sent_to() -> None:
    mesh = client(R1, R2)
    once = TaskOptions("work", at_most_once=True)
    mesh.do(TasksSubmitted([once], [TaskSpec("a", 0, b"")]))
    mesh.do(PeerLost(R1))
    assert not [m for m in wait_until_gone(mesh) if isinstance(m, Submit)]
    (told,) = mesh.do(RouterForgotten(R1))
    assert isinstance(told, PublishRejected)
    assert (told.ids, told.code) == (["a"], "unavailable")


def test_a_router_is_told_that_another_may_have_a_batch_only_where_that_did_not_answer() -> None:
    mesh = client(R1, R2)
    mesh.do(submitted("refused"), submitted("unanswered"))
    mesh.hear(Rejected(1, "overloaded", "full", 1.0))
    mesh.do(PeerLost(R1))
    assert submit("refused") in sent(mesh.do(wait=1.0), R2)
    mesh.hear(WELCOME)
    assert submit("unanswered", batch=2, repeated=True, elsewhere=True) in sent(mesh.do(RouterForgotten(R1)), R2)


def test_what_runs_at_most_once_stays_with_a_router_that_may_have_it_although_that_is_overloaded_now() -> None:
    mesh = client(R1, R2)
    once = TaskOptions("work", at_most_once=True)
    mesh.do(submitted("a", options=once))
    mesh.hear(SayHello())
    assert sent(mesh.hear(WELCOME)) == [submit("a", options=once, repeated=True)]
    assert mesh.hear(Rejected(1, "overloaded", "no room for its payload", 2.0)) == []
    assert mesh.machine.home == R2
    assert sent(mesh.do(wait=2.0)) == [submit("a", options=once, repeated=True)]
    assert not sent(mesh.hear(Rejected(1, "overloaded", "no room for its payload", 2.0)))
    [told] = [c for c in mesh.do(RouterForgotten(R1)) if isinstance(c, PublishRejected)]
    assert (told.ids, told.code) == (["a"], "unavailable")


def test_home_is_the_router_of_this_host_else_the_least_loaded() -> None:
    mesh = client(R1)
    mesh.do(RouterFound(R2))
    mesh.hear(Welcome("r2", "r2", "0", "disk"), peer=R2)
    assert mesh.machine.home == R1, "all else is equal"
    mesh.hear(Heartbeat(0.0, load=5_000))
    mesh.hear(Heartbeat(0.0, load=100), peer=R2)
    assert mesh.machine.home == R2
    here = Peer(b"r3")
    mesh.do(RouterFound(here, is_here=True))
    mesh.hear(Welcome("r3", "r3", "0", "disk"), peer=here)
    assert mesh.machine.home == here
    assert mesh.do(submitted("a")) == [Send(here, submit("a"))]


def test_a_router_that_has_not_said_its_load_yet_is_preferred_to_none() -> None:
    mesh = client(R1)
    mesh.hear(Heartbeat(0.0, load=5_000))
    mesh.do(RouterFound(R2))
    mesh.hear(WELCOME, peer=R2)
    mesh.hear(Heartbeat(0.0, load=5_000))
    assert mesh.machine.home == R1
    mesh.hear(Heartbeat(0.0, load=4_000_000), peer=R2)
    assert mesh.machine.home == R1
    mesh.hear(Heartbeat(0.0, load=1), peer=R2)
    assert mesh.machine.home == R2
    third = Peer(b"r3")
    mesh.do(RouterFound(third))
    mesh.hear(WELCOME, peer=third)
    mesh.do(PeerLost(R2))
    assert mesh.machine.home == R1, "its load is known"
    mesh.do(wait=1.0)
    mesh.hear(WELCOME, peer=R2)
    assert mesh.machine.home == R1, "what it said in an earlier session does not count"


def test_a_task_is_cancelled_at_every_router_for_any_may_have_it() -> None:
    mesh = client(R1, R2)
    mesh.do(PeerLost(R1))
    assert mesh.do(TasksCancelled(["a"])) == [Send(R2, Cancel(["a"]))]
    mesh.do(wait=1.0)
    assert Cancel(["a"]) in sent(mesh.hear(WELCOME)), "also where it was away"


def test_what_a_router_that_is_gone_for_good_did_not_accept_is_anothers() -> None:
    mesh = client(R1, R2)
    mesh.do(submitted("a"))
    assert mesh.do(RouterForgotten(R1)) == [Send(R2, submit("a", repeated=True, elsewhere=True))]
    assert mesh.do(RouterForgotten(R2)) == []
    assert (mesh.machine.routers, mesh.machine.home, mesh.machine.next_deadline()) == ({}, None, None)
    mesh.do(RouterFound(R1))
    assert mesh.hear(WELCOME) == [Send(R1, submit("a", repeated=True, elsewhere=True))]


def test_a_router_that_is_silent_for_three_heartbeats_is_lost() -> None:
    mesh = client(heartbeat_s=2.0)
    mesh.do(submitted("a"))
    assert sent(mesh.do(wait=1.8)) == [Heartbeat(WALL + 1.8)]
    mesh.do(wait=4.2)
    assert mesh.machine.home is None


def test_a_router_that_is_heard_of_in_part_is_not_silent() -> None:
    mesh = client(heartbeat_s=2.0)
    for _ in range(5):
        assert sent(mesh.do(PeerHeard(R1), wait=2.0)) == [Heartbeat(WALL + mesh.seconds)]
    assert mesh.machine.home == R1
    assert SessionEnded(R1, "a router was not heard of for 6 s", silent=True) in mesh.do(wait=6.0)
    assert mesh.do(PeerHeard(R2)) == [], "a stranger"


def test_a_refusal_is_made_public_and_asked_again_much_later() -> None:
    mesh = Driven(hello_retry_s=1.0)
    mesh.do(RouterFound(R1))
    assert mesh.hear(Refuse("role", "no")) == [PublishRefused("role", "no")]
    assert mesh.do(wait=9.9) == []
    assert mesh.do(wait=0.1) == [Send(R1, HELLO)]


# overload


def test_a_message_that_a_router_cannot_read_costs_its_own_batch_only() -> None:
    mesh = client()
    mesh.do(submitted("good"), submitted("bad"), submitted("fine"))
    refusal = Refuse("protocol", "malformed")

    anew = SessionEnded(R1, "the session with a router is opened anew")
    assert mesh.hear(refusal, SayHello()) == [PublishRefused("protocol", "malformed"), anew]  # and no HELLO at once
    assert sent(mesh.do(submitted("new"))) == []
    assert sent(mesh.do(wait=1.0)) == [HELLO]
    assert sent(mesh.hear(WELCOME)) == [submit("good", repeated=True)]
    assert sent(mesh.hear(Accepted([1]))) == [submit("bad", batch=2, repeated=True)]
    _, _, told = mesh.hear(refusal)
    assert told == PublishRejected(["bad"], "invalid", "the router cannot read it: malformed")
    assert sent(mesh.do(wait=1.0)) == [HELLO]
    assert sent(mesh.hear(WELCOME)) == [submit("fine", batch=3, repeated=True)]
    assert sent(mesh.hear(Accepted([3]))) == [submit("new", batch=4), Watch(["good", "fine"], own=True)]


def test_a_router_that_reads_nothing_is_asked_less_and_less_often() -> None:
    mesh = client()
    mesh.do(ResultsWatched(["x"]))
    pauses = []
    for _ in range(6):
        mesh.hear(Refuse("protocol", "malformed"))
        began = mesh.seconds
        while HELLO not in sent(mesh.do(wait=0.5)):
            pass
        pauses.append(mesh.seconds - began)
        mesh.hear(WELCOME)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_every_batch_that_a_router_cannot_read_is_given_up_however_many_there_are() -> None:
    mesh = client(heartbeat_s=2.0, liveness=3)
    bad = [f"bad{i}" for i in range(6)]
    mesh.do(*(submitted(task_id) for task_id in bad))
    rejected: list[str] = []
    while len(rejected) < len(bad) and mesh.seconds < 1_000.0:
        commands = mesh.hear(Refuse("protocol", "malformed"))
        rejected += [task_id for c in commands if isinstance(c, PublishRejected) for task_id in c.ids]
        while HELLO not in sent(mesh.do(wait=0.5)):
            pass
        mesh.hear(WELCOME)
    assert rejected == bad


def test_a_batch_that_cannot_be_read_is_found_also_where_much_was_refused_before() -> None:
    mesh = client(heartbeat_s=2.0, liveness=3)
    for _ in range(6):
        mesh.hear(Refuse("protocol", "malformed"))
        mesh.do(wait=10.0)
        mesh.hear(WELCOME)
    mesh.do(submitted("bad"))
    mesh.hear(Refuse("protocol", "malformed"))
    assert HELLO in sent(mesh.do(wait=1.0))
    assert sent(mesh.hear(WELCOME)) == [submit("bad", repeated=True)]
    assert PublishRejected(["bad"], "invalid", "the router cannot read it: no") in mesh.hear(Refuse("protocol", "no"))


def test_the_suspects_of_one_router_hold_back_nothing_that_is_sent_to_another() -> None:
    mesh = client(R1, R2)
    once = TaskOptions("work", at_most_once=True)
    mesh.do(submitted("once", options=once), submitted("a"))
    mesh.hear(Refuse("protocol", "malformed"))
    assert mesh.machine.home == R2
    mesh.do(PeerLost(R1))
    assert mesh.do(submitted("new")) == [Send(R2, submit("new", batch=3))]
    assert [m for m in wait_until_gone(mesh) if isinstance(m, Submit)] == [
        submit("a", batch=2, repeated=True, elsewhere=True)
    ]
    assert sent(mesh.do(ResultsWatched(["x"]), TasksCancelled(["y"])), R2) == [Watch(["x"]), Cancel(["y"])]
    assert sent(mesh.hear(WELCOME))[0] == submit("once", options=once, repeated=True)


def test_a_batch_that_a_router_which_is_home_no_more_cannot_read_is_given_up() -> None:
    mesh = client()
    mesh.hear(Heartbeat(0.0, load=100_000))
    mesh.do(submitted("good"), submitted("bad"), RouterFound(R2))
    mesh.hear(WELCOME, Heartbeat(0.0), peer=R2)
    assert mesh.machine.home == R2
    assert not [c for c in mesh.hear(Refuse("protocol", "malformed")) if isinstance(c, PublishRejected)]
    mesh.do(wait=1.0)
    assert sent(mesh.hear(WELCOME)) == [submit("good", repeated=True)]
    assert sent(mesh.hear(Accepted([1]))) == [submit("bad", batch=2, repeated=True)]
    (told,) = [c for c in mesh.hear(Refuse("protocol", "malformed")) if isinstance(c, PublishRejected)]
    assert (told.ids, told.code) == (["bad"], "invalid")
    assert mesh.machine.home == R2


def test_what_was_never_sent_is_not_sent_as_if_it_had_been() -> None:
    mesh = client(R1, R2)
    mesh.do(submitted("suspect"))
    mesh.hear(Refuse("protocol", "malformed"))
    mesh.do(RouterForgotten(R2))
    mesh.do(wait=1.0)
    mesh.hear(WELCOME)
    assert mesh.do(submitted("held back")) == []
    mesh.do(RouterFound(R2))
    mesh.hear(WELCOME, peer=R2)
    assert Send(R2, submit("held back", batch=2)) in mesh.do(PeerLost(R1))


def test_suspects_go_to_another_router_when_theirs_is_gone() -> None:
    mesh = client(R1, R2)
    mesh.do(submitted("a"), submitted("b"))
    assert sent(mesh.hear(Refuse("protocol", "malformed")), R2) == [], "it may have accepted one of them"
    mesh.do(PeerLost(R1))
    again = [message for message in wait_until_gone(mesh) if isinstance(message, Submit)]
    assert again == [
        submit("a", repeated=True, elsewhere=True),
        submit("b", batch=2, repeated=True, elsewhere=True),
    ]


def test_a_suspect_that_a_full_router_has_read_is_none_any_more() -> None:
    mesh = client()
    mesh.do(submitted("a"), submitted("b"))
    mesh.hear(Refuse("protocol", "malformed"))
    mesh.do(wait=1.0)
    mesh.hear(WELCOME)
    assert sent(mesh.hear(Rejected(1, "overloaded", "full", 2.0))) == [submit("b", batch=2, repeated=True)]
    mesh.hear(Accepted([2]))
    assert sent(mesh.do(wait=2.0)) == [submit("a", repeated=True)]


def test_an_overloaded_router_is_asked_again_after_the_time_it_named() -> None:
    mesh = client()
    mesh.do(submitted("a"))
    assert mesh.hear(Rejected(1, "overloaded", "full", 2.0)) == []
    assert mesh.machine.next_deadline() == pytest.approx(MONO + 2.0)
    assert mesh.do(wait=1.9) == []
    assert mesh.do(wait=0.1) == [Send(R1, submit("a"))], "it has nothing of it, and need not look"


def test_a_batch_that_was_not_answered_once_stays_one_that_may_be_known() -> None:
    mesh = client()
    mesh.do(submitted("a"))
    mesh.do(PeerLost(R1))
    mesh.do(wait=1.0)
    assert submit("a", repeated=True) in sent(mesh.hear(WELCOME))
    mesh.hear(Rejected(1, "overloaded", "full", 2.0))
    assert mesh.do(wait=2.0) == [Send(R1, submit("a", repeated=True))]


def test_what_a_router_says_of_its_store_is_known_until_it_says_otherwise() -> None:
    mesh = client()
    mesh.hear(Heartbeat(full="the store is away"))
    assert mesh.machine.full == ["the store is away"]
    mesh.hear(Heartbeat())
    assert mesh.machine.full == []


def test_a_mesh_that_stays_overloaded_fails_the_submit_in_the_end() -> None:
    mesh = client(submit_timeout_s=10.0)
    mesh.do(submitted("a"))
    mesh.hear(Rejected(1, "overloaded", "full", 60.0))
    assert mesh.do(wait=9.9) == []
    assert mesh.do(wait=0.1) == [PublishRejected(["a"], "overloaded", "full", 60.0)]
    assert not mesh.machine.waiting


def test_a_batch_that_is_wrong_is_given_up_at_once() -> None:
    mesh = client()
    mesh.do(submitted("a"))
    assert mesh.hear(Rejected(1, "invalid", "no")) == [PublishRejected(["a"], "invalid", "no")]
    assert mesh.machine.unaccepted == 0


# outcomes


def test_an_outcome_is_published_once() -> None:
    mesh = client()
    mesh.do(submitted("a"))
    assert mesh.hear(Outcomes([outcome("a")])) == [PublishOutcomes([outcome("a")])]
    assert mesh.hear(Outcomes([outcome("a")])) == []


def test_an_outcome_nobody_waits_for_is_dropped() -> None:
    mesh = client()
    mesh.do(submitted("a"), ResultsForgotten(["a"]))
    assert mesh.hear(Outcomes([outcome("a")])) == []


def test_a_result_that_is_ignored_is_not_waited_for() -> None:
    mesh = client()
    mesh.do(submitted("a", options=TaskOptions("work", ignore_result=True)))
    assert not mesh.machine.waiting


def test_the_result_of_somebody_elses_task_is_watched() -> None:
    mesh = client()
    assert mesh.do(ResultsWatched(["x"])) == [Send(R1, Watch(["x"]))]
    assert mesh.hear(Unknown(["x"])) == [PublishUnknown(["x"])]
    assert mesh.hear(Unknown(["x"])) == []


def test_an_unaccepted_task_is_not_unknown_whatever_a_router_says() -> None:
    mesh = client()
    mesh.do(submitted("a"))
    assert mesh.hear(Unknown(["a"])) == []


def test_a_result_nobody_holds_is_unwatched_where_it_was_watched_and_dropped_where_that_is_wanted() -> None:
    mesh = client()
    mesh.do(submitted("own"), ResultsWatched(["others"]))
    assert mesh.do(ResultsForgotten(["own", "others"])) == [Send(R1, Unwatch(["others"]))]
    assert mesh.do(ResultsForgotten(["own"], drop=True)) == [Send(R1, Unwatch(["own"], forget=True))]


# wishes


def test_cancels_and_queries_wait_for_a_router() -> None:
    mesh = Driven()
    assert mesh.do(TasksCancelled(["a"], True, "SIGTERM"), QueryAsked(Query(7, "status"))) == []
    mesh.do(RouterFound(R1))
    assert mesh.hear(WELCOME) == [Send(R1, Cancel(["a"], True, "SIGTERM")), Send(R1, Query(7, "status"))]
    assert mesh.hear(Reply(7, b"{}")) == [PublishReply(7, b"{}")]


def test_a_query_for_one_router_goes_to_that_one_or_to_none() -> None:
    mesh = client(R1, R2)
    assert mesh.do(QueryAsked(Query(1, "status"), R2)) == [Send(R2, Query(1, "status"))]
    mesh.do(PeerLost(R2))
    assert mesh.do(QueryAsked(Query(2, "status"), R2)) == []
    mesh.do(wait=1.0)
    assert Query(2, "status") not in sent(mesh.hear(WELCOME, peer=R2)), "who asked looks again who is there"


def test_cancels_and_queries_do_not_wait_without_end() -> None:
    mesh = Driven()
    mesh.do(*(QueryAsked(Query(i, "status")) for i in range(WISHES_MAX)))
    [dropped] = mesh.do(TasksCancelled(["a"]))
    assert isinstance(dropped, PublishDropped)
    assert "this cancel is not kept" in dropped.reason


def test_what_was_kept_for_a_router_that_is_forgotten_takes_no_place_any_more() -> None:
    mesh = client(R1, R2)
    ids = [f"t{i}" for i in range(WISHES_MAX)]
    mesh.do(PeerLost(R1), TasksCancelled(ids))
    mesh.do(RouterForgotten(R1), PeerLost(R2))
    assert mesh.do(TasksCancelled(ids)) == []
    mesh.do(wait=1.0)
    assert [i for m in sent(mesh.hear(WELCOME, peer=R2)) if isinstance(m, Cancel) for i in m.ids] == ids


def test_what_was_wished_before_and_after_a_router_was_lost_is_told_to_the_next_in_that_order() -> None:
    mesh = client(R1)
    mesh.do(PeerLost(R1), RouterFound(R2))
    mesh.do(TasksCancelled(["a"]), QueryAsked(Query(1, "purge")), submitted("b"), QueryAsked(Query(2, "status")))
    mesh.do(RouterForgotten(R1))
    mesh.do(wait=1.0)
    assert sent(mesh.hear(WELCOME, peer=R2)) == [Cancel(["a"]), Query(1, "purge"), submit("b"), Query(2, "status")]


def test_a_client_that_stops_says_so_to_every_router() -> None:
    assert client(R1, R2).do(StopRequested()) == [Send(R1, Bye("closed")), Send(R2, Bye("closed"))]
