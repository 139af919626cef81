"""Turns what the user's threads submitted, one by one, into the events the client machine wants."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from mesh.core.events import TasksSubmitted
from mesh.model import FunctionCode, TaskOptions, TaskSpec


class Submission(Struct, gc=False):
    """One task as it was submitted. ``task.option`` is 0; ``chosen``: the user chose the id.

    The garbage collector does not follow it: thousands wait here at a time, and none leads back to itself.
    """

    options: TaskOptions
    task: TaskSpec
    code: FunctionCode | None
    chosen: bool


def grouped(submissions: Sequence[Submission]) -> list[TasksSubmitted]:
    """The submissions in their order: one event, or several where chosen and made ids take turns."""
    events: list[TasksSubmitted] = []
    options: list[TaskOptions] = []
    tasks: list[TaskSpec] = []
    functions: dict[str, FunctionCode] = {}
    index: dict[TaskOptions, int] = {}
    last: TaskOptions | None = None
    place = 0
    chosen = submissions[0].chosen if submissions else False
    for submission in submissions:
        theirs, task = submission.options, submission.task
        if submission.chosen is not chosen:
            events.append(TasksSubmitted(options, tasks, tuple(functions.values()), chosen))
            options, tasks, functions, index, last, chosen = [], [], {}, {}, None, submission.chosen
        if theirs is not last:  # almost always it is the same object as before
            last = theirs
            place = index.setdefault(theirs, len(options))
            if place == len(options):
                options.append(theirs)
            code = submission.code
            if code is not None:
                functions[code.digest] = code
        tasks.append(task if place == 0 else replace(task, option=place))
    if tasks:
        events.append(TasksSubmitted(options, tasks, tuple(functions.values()), chosen))
    return events
