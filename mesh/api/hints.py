"""What people who know Celery look for and do not find here, and what there is instead; README lists the same.

Such a name raises what Python raises for any other that is not there, and ``hasattr`` is False: only the text differs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

_ROWS = (
    ("use Mesh, and leave broker and backend out", "Celery"),
    ("use @app.task", "shared_task register_task"),
    (
        "not there yet: submit the next task from a task, or when the result is there; add_periodic_task takes args=",
        "chain chord signature subtask maybe_signature s si link link_error replace",
    ),
    ("not there yet: app.gather and app.as_completed wait for many results", "group GroupResult ResultSet"),
    ("use app.map, which makes chunks by itself", "chunks starmap xmap xstarmap"),
    (
        "not needed: routers keep the schedule, and any worker says what is due",
        "beat_scheduler beat_schedule_filename beat_max_loop_interval beat_sync_every PersistentScheduler "
        "redbeat_redis_url",
    ),
    ("use app.conf.beat_schedule", "CELERYBEAT_SCHEDULE CELERY_BEAT_SCHEDULE"),
    ("use catchup_window of an entry, in app.conf.beat_schedule", "beat_cron_starting_deadline"),
    ("use crontab with the times you mean", "solar"),
    (
        "not there yet: no result knows of others; inside a task self.request.parent_id and root_id do",
        "children parent graph collect iterdeps get_leaf",
    ),
    ("not there yet: time_limit ends the process", "soft_time_limit task_soft_time_limit"),
    ("not there yet: run fewer executors on a queue of its own (-Q, -c)", "rate_limit task_default_rate_limit"),
    ("not there yet", "signals update_state task_track_started"),
    (
        "not needed: arguments and results are plain data or pickles, whichever they need",
        "serializer compression task_serializer result_serializer accept_content task_compression",
    ),
    (
        "not needed: there is no broker; give a task its queue with queue=",
        "exchange routing_key broker_url result_backend broker_connection_retry_on_startup broker_transport_options "
        "task_routes task_queues task_default_exchange task_default_routing_key",
    ),
    ("not needed: name the modules with -A or Mesh(include=[...])", "autodiscover_tasks imports"),
    (
        "not needed: app.conf.update(...) has the defaults of tasks, Mesh(...) and MESH_... the other settings",
        "config_from_object config_from_envvar",
    ),
    ("not needed: with bind=True a task is given itself, with self.app", "current_app current_task"),
    ("not needed: the state of a result is a plain string", "states"),
    ("use app.status(), or mesh status", "inspect ping events"),
    (
        "use the command: mesh worker, with -c, -Q and --time-limit; SIGTERM ends it",
        "worker_main Worker shutdown broadcast pool_grow pool_shrink add_consumer cancel_consumer worker_concurrency",
    ),
    ("not needed: workers ask for as much as they can run", "worker_prefetch_multiplier"),
    ("not needed: that is how it is unless acks_late=False", "reject_on_worker_lost task_reject_on_worker_lost"),
)
HINTS = {name: hint for hint, names in _ROWS for name in names.split()}


def with_hints(text: str, names: Iterable[str]) -> str:
    """``text``, and what is known of those of the names that are in Celery."""
    return "; ".join([text, *(f"{name}: {HINTS[name]}" for name in names if name in HINTS)])


class _Absent:
    """An attribute that is not there. ``__getattr__`` would slow down the attributes that are."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, kind: type) -> NoReturn:
        text = f"{kind.__name__!r} object has no attribute {self._name!r}"
        raise AttributeError(f"{text}: {HINTS[self._name]}", name=self._name, obj=instance)


def explain_absent(kind: type) -> None:
    """Have ``kind`` say more of what it lacks; ``dir`` does not show it."""
    absent = [name for name in HINTS if not hasattr(kind, name)]
    for name in absent:
        setattr(kind, name, _Absent(name))

    def present(self: object) -> list[str]:
        return sorted(set(object.__dir__(self)).difference(absent))

    type.__setattr__(kind, "__dir__", present)
