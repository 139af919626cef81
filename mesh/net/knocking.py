"""Knocks at routers that may be there, until one proves that it holds the key of the mesh."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mesh.model import Peer, Role
from mesh.net.arrivals import MISFITS, Trouble
from mesh.net.dealer_transport import DealerTransport
from mesh.net.endpoints import is_tcp
from mesh.net.find import Found, in_turns
from mesh.net.keys import AnyKey, MeshKey

LOOK_S = 0.05
FINISH_S = 0.2  # for greetings that are under way when one router has answered: cut short, they look hostile there
ADDRESSES_MAX = 256  # knocked at in one go


@dataclass(slots=True)
class Knocked:
    """What came of it: the router and the address that answered first, what does not fit, where it was tried.

    ``router_id``: who it says that it is, empty where it does not say. ``misfits``: where our key was not let in;
    ``silent``: where nothing was heard, neither a greeting nor a refusal.
    """

    found: Found | None = None
    endpoint: str = ""
    router_id: str = ""
    misfits: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)


def knock(
    find: Callable[[], Sequence[Found]],
    key: AnyKey,
    within_s: float,
    command: str = "mesh",
    meet: Callable[[DealerTransport, Peer], str] = lambda transport, peer: "",
) -> Knocked:
    """Try all tcp addresses of all that ``find`` gives now and meanwhile, at once; the first that answers wins.

    ``command``: what people type for this mesh. ``meet`` asks a router that has let us in who it is.
    """
    knocked = Knocked()
    role = Role.CLIENT if isinstance(key, MeshKey) else key.role
    asked: dict[Peer, tuple[Found, str]] = {}
    first: Peer | None = None
    transport = DealerTransport(outbox_bytes_max=1)
    deadline = time.monotonic() + within_s
    try:
        undecided: set[Peer] = set()
        while (undecided or knocked.found is None) and (left_s := deadline - time.monotonic()) > 0:
            looked = find() if knocked.found is None else ()
            for found, endpoint in in_turns([(found, endpoint) for endpoint in found.endpoints] for found in looked):
                new = is_tcp(endpoint) and endpoint not in knocked.tried
                if new and len(knocked.tried) < ADDRESSES_MAX:
                    knocked.tried.append(endpoint)
                    peer = transport.connect(endpoint, key, role, command)
                    asked[peer] = found, endpoint
                    undecided.add(peer)
            arrivals = transport.receive(min(LOOK_S, left_s))
            undecided -= {*arrivals.connected, *(problem.peer for problem in arrivals.problems if problem.peer)}
            for problem in arrivals.problems:
                if problem.kind in MISFITS and problem.peer in asked:
                    knocked.misfits.append(asked[problem.peer][1])
                if problem.kind is not Trouble.NO_ROUTER and problem.text not in knocked.problems:
                    knocked.problems.append(problem.text)
            if arrivals.connected and knocked.found is None:
                knocked.found, knocked.endpoint = asked[arrivals.connected[0]]
                first = arrivals.connected[0]
                deadline = min(deadline, time.monotonic() + FINISH_S)
        if first is None:
            knocked.silent = [endpoint for peer, (_, endpoint) in asked.items() if peer in undecided]
        else:
            knocked.router_id = meet(transport, first)
    finally:
        transport.close(0.0)
    return knocked
