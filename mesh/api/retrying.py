"""When a failed task is tried again: (policy, retries so far, error) -> seconds to wait. Celery's rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mesh.api.options import checked_seconds, instant, is_number
from mesh.errors import ConfigError, Retry

Exceptions = tuple[type[BaseException], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How a task is retried. ``max_retries`` None: without end. ``backoff``: the first pause in seconds, or None."""

    max_retries: int | None = 3
    default_delay_s: float = 180.0
    retry_for: Exceptions = ()
    dont_retry_for: Exceptions = ()
    backoff: float | None = None
    backoff_max_s: float = 600.0
    jitter: bool = True
    arguments: Mapping[str, Any] = field(default_factory=dict)  # Celery's retry_kwargs

    def __post_init__(self) -> None:
        unknown = sorted(set(self.arguments) - {"max_retries", "countdown", "eta"})
        if unknown:
            raise ConfigError(f"retry_kwargs: unknown {', '.join(unknown)}; known: max_retries, countdown, eta")
        for limit in (self.max_retries, self.arguments.get("max_retries")):
            if limit is not None and not (is_number(limit) and limit >= 0):
                raise ConfigError(f"max_retries={limit!r}: expected 0 or more, or None for no limit")
        if "countdown" in self.arguments:
            checked_seconds("retry_kwargs: countdown", self.arguments["countdown"])
        if "eta" in self.arguments:
            instant("retry_kwargs: eta", self.arguments["eta"])

    def retries_on(self, error: BaseException) -> bool:
        """Whether ``autoretry_for`` covers this error."""
        kind = type(error)  # not isinstance: what the error says of its class is the user's code
        return issubclass(kind, self.retry_for) and not issubclass(kind, (Retry, *self.dont_retry_for))

    def delay_s(self, retries: int, chance: float) -> float:
        """Seconds to wait after the ``retries``-th retry failed; ``chance`` in [0, 1) is the dice of the jitter."""
        if self.backoff is None:
            return checked_seconds("countdown", self.arguments.get("countdown", self.default_delay_s))
        return backoff_s(self.backoff, retries, self.backoff_max_s, chance if self.jitter else None)


def backoff_s(factor: float, retries: int, maximum_s: float, chance: float | None) -> float:
    """``factor * 2 ** retries`` up to ``maximum_s``; with ``chance`` somewhere between nothing and that."""
    exponent = min(retries, 64)  # beyond that every maximum is reached, and floats would overflow
    whole = max(0.0, min(maximum_s, factor * 2.0**exponent))
    return whole if chance is None else whole * chance


def backoff_factor(retry_backoff: bool | float) -> float | None:
    """What ``retry_backoff=`` means: True is 1 s, a number is that many seconds, False or 0 is none."""
    if not (is_number(retry_backoff) or isinstance(retry_backoff, bool)) or retry_backoff < 0:
        raise ConfigError(f"retry_backoff={retry_backoff!r}: expected True, False or the first pause in seconds")
    return float(retry_backoff) if retry_backoff else None
