"""Hypothesis strategies for every message, built from the types themselves."""

from __future__ import annotations

from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
from hypothesis import strategies as st
from msgspec import Meta, Struct

from mesh.messages import Deliver, Message, Submit
from mesh.model import Blob
from mesh.wire.codec import FROM_NODE, FROM_ROUTER

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def verbs() -> dict[str, type[Message]]:
    """Every verb, by tag, found by reflection: none can be forgotten."""
    return {str(kind.__struct_config__.tag): kind for kind in Message.__subclasses__()}


def messages(kind: type[Message]) -> st.SearchStrategy[Any]:
    """Valid messages of one verb."""
    if kind is Submit:
        return _of_struct(kind).map(_with_known_options)
    if kind is Deliver:
        return _of_struct(kind).map(_with_delivered_options)
    return _of_struct(kind)


def any_message() -> st.SearchStrategy[Any]:
    return st.sampled_from([*FROM_NODE, *FROM_ROUTER]).flatmap(messages)


def _with_known_options(submit: Submit) -> Submit:
    if not submit.options:
        return msgspec.structs.replace(submit, tasks=[])
    tasks = [msgspec.structs.replace(task, option=task.option % len(submit.options)) for task in submit.tasks]
    return msgspec.structs.replace(submit, tasks=tasks)


def _with_delivered_options(deliver: Deliver) -> Deliver:
    known = [*deliver.options]
    if not known:
        return msgspec.structs.replace(deliver, tasks=[])
    tasks = [msgspec.structs.replace(task, option=known[task.option % len(known)]) for task in deliver.tasks]
    return msgspec.structs.replace(deliver, tasks=tasks)


def _of_struct(kind: type[Struct]) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind, include_extras=True)
    return st.builds(kind, **{name: _of_type(hints[name]) for name in kind.__struct_fields__})


def _of_type(hint: Any, meta: Meta | None = None) -> st.SearchStrategy[Any]:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _of_type(args[0], args[1])
    if origin is Union or type(hint).__name__ == "UnionType":
        return st.one_of([_of_type(one) for one in args])
    if origin is list:
        return st.lists(_of_type(args[0]), min_size=(meta and meta.min_length) or 0, max_size=3)
    if origin is tuple:
        return st.tuples(*map(_of_type, args))
    if origin is dict:
        return st.dictionaries(_of_type(args[0]), _of_type(args[1]), max_size=3)
    if hint is Blob:
        return st.builds(Blob, TEXT.filter(bool), st.lists(st.integers(1, 3000), min_size=1, max_size=3))
    if isinstance(hint, type) and issubclass(hint, Struct):
        return _of_struct(hint)
    if hint is str:
        return TEXT.filter(bool) if meta and meta.min_length else TEXT
    if hint is int:
        return st.integers(meta.ge, meta.le) if meta else st.integers(-(2**63), 2**63 - 1)
    if hint is float:
        return st.floats(meta.ge, meta.le) if meta else st.floats(allow_nan=False, allow_infinity=False)
    return st.from_type(hint)
