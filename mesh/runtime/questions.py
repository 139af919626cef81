"""What a process asks routers, and who waits for which answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

from mesh.core.commands import PublishReply
from mesh.core.events import Event, QueryAsked, QueryGivenUp
from mesh.errors import Refused, Unavailable
from mesh.messages import Query, Schedule
from mesh.model import Peer
from mesh.runtime.routers import Routers
from mesh.runtime.routes import Known
from mesh.settings import Settings

STORY_S = 0.2  # a wait that ran out lasts so much longer at the most, for the word of a router why it did


class Questions:
    """Of one connection. The user's threads ask and wait, the loop answers.

    ``send`` hands an event to the loop, ``wait_until`` waits for what the loop does, ``situation`` is for people.
    """

    def __init__(
        self,
        settings: Settings,
        routers: Routers,
        send: Callable[[Event], None],
        wait_until: Callable[[Callable[[], bool], float | None], bool],
        situation: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._routers = routers
        self._send = send
        self._wait_until = wait_until
        self._situation = situation
        self._replies: dict[int, list[bytes]] = {}  # of the queries that somebody waits for
        self._next_request = count(1).__next__

    def query(self, what: str, arguments: Sequence[str] = (), timeout: float | None = None) -> bytes:
        """Ask a router; the answer is JSON. Raises ``Unavailable`` when none answers in ``timeout`` seconds."""
        asked = partial(Query, what=what, arguments=list(arguments))
        return self.ask(f"the question for {what!r}", asked, timeout, changes=what == "purge")

    def ask(
        self,
        what: str,
        message: Callable[[int], Query | Schedule],
        timeout: float | None = None,
        *,
        changes: bool = False,
    ) -> bytes:
        """Send what ``message`` makes of the request's number; the answer is JSON. ``what`` it is, for people.

        Raises ``Unavailable`` when no router answers in ``timeout`` seconds; what ``changes`` something may be done.
        """
        limit = self._settings.connect_timeout_s if timeout is None else timeout
        request = self._next_request()
        reply: list[bytes] = []
        self._replies[request] = reply
        self._send(QueryAsked(message(request)))
        try:
            if not self._wait_until(lambda: bool(reply), limit):
                if not self._routers.welcomed:
                    raise Unavailable(self._situation())
                done = ", and it may be done all the same" if changes else ""
                raise Unavailable(f"no router answered {what} in {limit:g} s{done}; {self._situation()}")
            return reply[0]
        finally:
            del self._replies[request]
            if not reply:
                self._send(QueryGivenUp(request))

    def query_each(self, what: str, timeout: float, *, named: bool = False) -> list[tuple[Known, bytes | None]]:
        """Ask every router that is known, or the ``named`` ones; None for one that has not answered in ``timeout`` s.

        One that welcomes this node meanwhile is asked, too. Raises ``Unavailable``, ``Refused``.
        """
        requests: dict[str, int] = {}
        known: list[Known] = []

        def all_have_answered() -> bool:
            known[:] = [one for one in self._routers.known() if one.is_named or not named]
            for one in known:
                if one.id is not None and one.is_welcome and one.id not in requests:
                    request = requests[one.id] = self._next_request()
                    self._replies[request] = []
                    self._send(QueryAsked(Query(request, what), Peer(one.id.encode())))
            return all(body_of(one) is not None for one in known)

        def body_of(one: Known) -> bytes | None:
            request = None if one.id is None else requests.get(one.id)
            return None if request is None else next(iter(self._replies[request]), None)

        try:
            self._wait_until(all_have_answered, timeout)
            return [(one, body_of(one)) for one in known]
        finally:
            for request in requests.values():
                del self._replies[request]

    def story(self, task_id: str) -> str:
        """Why a task is not finished, in the words of a router; empty where none says it within ``STORY_S``."""
        if not self._routers.welcomed:
            return ""
        try:
            answer = json.loads(self.query("story", [task_id], STORY_S))
        except (Unavailable, Refused):
            return ""
        return str(answer.get("stories", {}).get(task_id, ""))  # an older router answers with an error

    def answer(self, reply: PublishReply) -> None:
        """Hand an answer to who waits for it; called by the loop."""
        self._replies.get(reply.request, []).append(reply.body)  # one that comes too late is nobody's
