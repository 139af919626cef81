"""Times, or profiles, marked calls only: what a part needs to prepare its input is not counted."""

from __future__ import annotations

import pstats
from collections import defaultdict
from collections.abc import Callable
from cProfile import Profile
from io import StringIO
from time import perf_counter
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Stopwatch:
    """Seconds by phase; with ``profile`` the calls are profiled instead, which makes their times worthless."""

    def __init__(self, *, profile: bool = False) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._profile = Profile() if profile else None

    def call(self, phase: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call ``function`` on the clock of ``phase``."""
        if self._profile is not None:
            return self._profile.runcall(function, *args, **kwargs)
        began = perf_counter()
        result = function(*args, **kwargs)
        self.seconds[phase] += perf_counter() - began
        return result

    def hottest(self, count: int) -> str:
        """The ``count`` functions that took the most time themselves, as text."""
        assert self._profile is not None, "made without profile=True"
        text = StringIO()
        pstats.Stats(self._profile, stream=text).strip_dirs().sort_stats("tottime").print_stats(count)
        return text.getvalue().strip()
