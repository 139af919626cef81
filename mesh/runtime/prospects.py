"""Whether there is hope of a router, and what people are told while there is none: everything once."""

from __future__ import annotations

import logging
from math import inf

from mesh.clock import Clock
from mesh.errors import ConfigError, NoKey, Refused, Unavailable
from mesh.net.arrivals import MISFITS, Problem, Trouble
from mesh.net.find import Search, Source, unanswered
from mesh.runtime.routes import ANNOUNCED_MAX, TRY_S, Route, Routes
from mesh.settings import Settings, command_of

POLL_S = 0.25  # how often a waiting thread looks whether there is still hope of a router
NOTES_MAX = 100  # problems that are remembered as said
NOTES_ANNOUNCED_MAX = 10  # after so many, those with announced addresses are not logged
COMPLAIN_S = 60.0  # between two lines about announced addresses where nobody proved to be

log = logging.getLogger("mesh.connection")


class Prospects:
    """Of one node. What asks and changes nothing may be called on any thread."""

    def __init__(self, settings: Settings, clock: Clock, routes: Routes, advice: str = "") -> None:
        """``advice``: what to do where there is no router; empty: to ask whether one runs."""
        self._advice = advice
        self._settings = settings
        self._clock = clock
        self._routes = routes
        self._tried = "Still looking"
        self._mistaken = ""
        self._noted: dict[str, None] = {}  # problems that were logged since the last welcome, oldest first
        self._started = self._lonely_since = clock.now().mono
        self._ever_welcomed = False
        self._refused: str | None = None
        self._unfit: ConfigError | None = None
        self._unproven_said = 0
        self._complain_at = 0.0

    @property
    def lonely_s(self) -> float:
        """For how long no router has welcomed us; 0 while one does."""
        return 0.0 if self._routes.welcomed else self._clock.now().mono - self._lonely_since

    @property
    def is_unfit(self) -> bool:
        """Whether nothing that is found, or may be, can be used; or that is likely: the key is another mesh's, say."""
        return not self._routes.welcomed and (self._unfit is not None or bool(self._mistaken))

    def patience(self, deadline: float | None) -> float:
        """Seconds a thread may wait in one go for something that a router must do; -1 for as long as it takes."""
        remaining = -1.0 if deadline is None else max(0.0, deadline - self._clock.now().mono)
        if self._routes.welcomed:
            return remaining
        return POLL_S if remaining < 0 else min(POLL_S, remaining)

    def raise_if_hopeless(self) -> None:
        """Raise ``Refused`` when a router did, ``Unavailable`` when none was ever found in ``connect_timeout_s``.

        In half of that where there is no address left that may still answer; that is ``ConfigError``, ``NoKey`` where
        it is for the key.
        """
        if self._routes.welcomed:
            return
        if self._refused is not None:
            raise Refused(self._refused)
        if not self._ever_welcomed and self._first_s <= 0:
            raise self._unfit_now() or Unavailable(self.situation())

    @property
    def hope_s(self) -> float:
        """For how long it makes sense to wait for a router, as things are."""
        if self._routes.welcomed or (self._ever_welcomed and self._refused is None):
            return inf
        is_hopeless = self._refused is not None or (self._unfit is not None and not isinstance(self._unfit, NoKey))
        return 0.0 if is_hopeless else max(0.0, self._first_s)

    @property
    def _first_s(self) -> float:
        """How much is left of the time in which a first router is expected."""
        is_shut = not self._routes.wait and all(route.problem for route in self._routes.all())
        return self._started + self._settings.connect_timeout_s / (2 if is_shut else 1) - self._clock.now().mono

    def _unfit_now(self) -> ConfigError | None:
        """What keeps us from all routers, whatever else there is; a new one, for each who waits raises his own."""
        unfit = self._unfit
        return None if unfit is None else type(unfit)(str(unfit))

    def situation(self) -> str:
        """Whether there is a router, and what was tried to find one; for people."""
        welcomed = len(self._routes.welcomed)
        if welcomed:
            return f"connected to {welcomed} router{'s' * (welcomed > 1)}"
        if self._refused is not None:
            return f"the router refused this node: {self._refused}"
        if self._unfit is not None:
            return str(self._unfit)
        waited = self._clock.now().mono - self._lonely_since
        mesh = self._settings.mesh
        if self._ever_welcomed:
            what = f"the connection to the router was lost (mesh {mesh!r}, {waited:.1f} s ago)"
        else:
            what = f"no router answered (mesh {mesh!r}, after {waited:.1f} s)"
        named = [r.problem for r in self._routes.all() if r.source is Source.NAMED and r.problem]
        tried = ". ".join(dict.fromkeys([self._tried, *named]))
        silent = [r.endpoint for r in self._routes.all() if r.is_silent]
        if self._mistaken:
            then = f"But {self._mistaken}"
        elif silent:
            then = unanswered(silent, command_of(mesh))
        else:
            then = self._advice or f"Is `{command_of(mesh)} up` running?"
        return f"{what}. {tried}. {then}"

    def searched(self, search: Search) -> None:
        """It was looked for routers; on the thread that looks."""
        self._unfit, self._mistaken = search.unfit, search.mistaken
        if not self._routes.welcomed:
            self._tried = f"Tried: {search.tried}"

    def note(self, problem: str) -> None:
        """Keep a problem for the message that people get; log it once until a router welcomes us."""
        self._tried = problem
        if problem in self._noted:
            return
        if len(self._noted) >= NOTES_MAX:
            del self._noted[next(iter(self._noted))]
        self._noted[problem] = None
        log.warning("%s", problem)

    def complain(self, problem: Problem) -> None:
        """Note what a transport says; keys that do not fit twice in a row are no accident of a router's restart."""
        route = self._routes.at(problem.peer) if problem.peer is not None else None
        if route is not None and self._is_gone(route, problem):
            pass  # as most that were met some time ago; the search says where they were
        elif route is not None and route.source is Source.ANNOUNCED and len(self._noted) >= NOTES_ANNOUNCED_MAX:
            self._tried = problem.text  # anybody can have it said of ever new addresses
        else:
            self.note(problem.text)
        if route is None:
            return
        route.problem = problem.text
        if problem.kind not in MISFITS:
            return
        route.misfits += 1
        sure = [one for one in self._routes.all() if one.source in (Source.NAMED, Source.HERE)]
        if not self._routes.welcomed and sure and all(one.misfits > 1 for one in sure):
            self._refused = problem.text

    def _is_gone(self, route: Route, problem: Problem) -> bool:
        is_old = route.source is Source.MET and not self._routes.has_served(route)
        return is_old and problem.kind is Trouble.NO_ROUTER

    def complain_of_unproven(self) -> None:
        """Say now and then how many announced addresses were given up."""
        now, unproven = self._clock.now().mono, self._routes.unproven
        if unproven > self._unproven_said and now >= self._complain_at:
            self._complain_at = now + COMPLAIN_S
            log.warning(
                "%d addresses that are announced on the LAN did not answer with the key of this mesh within %g s; they "
                "take turns, %d at a time",
                unproven - self._unproven_said,
                TRY_S,
                ANNOUNCED_MAX,
            )
            self._unproven_said = unproven

    def refuse(self, reason: str) -> None:
        """A router would not have us, or something we asked for."""
        log.error("a router refuses: %s", reason)
        if not self._routes.welcomed:
            self._refused = reason

    def brighten(self) -> None:
        """A router has welcomed us."""
        self._ever_welcomed = True
        self._refused = None
        self._noted.clear()

    def darken(self) -> None:
        """A router that had welcomed us is lost."""
        self._lonely_since = self._clock.now().mono
