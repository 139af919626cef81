"""How latencies are distributed, one shape under the other on the same axis. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.distribution import low_of, quantile
from bench.figures import says_something
from bench.html.bars import anchor
from bench.html.markup import chart, hint, label, line, percent, tag
from bench.html.quantities import quantity, tick
from bench.html.scales import Scale, logarithmic

ROW, SHAPE, AXIS = 72, 46, 24
MARKS = {50: "middle", 99: "tail"}
"""How percentiles are drawn."""


@dataclass(frozen=True)
class Ridge:
    """``counts``: as ``bench.distribution`` makes them."""

    name: str
    counts: Mapping[str, int]
    unit: str
    ours: bool = False


def ridge_chart(title: str, ridges: Sequence[Ridge]) -> str:
    """One shape for each; a line at its median, a dashed one at its 99th percentile, where these say something."""
    buckets = [int(bucket) for ridge in ridges for bucket in ridge.counts]
    scale = logarithmic(low_of(min(buckets)), low_of(max(buckets) + 1))
    height = ROW * len(ridges)
    rows = [_row(ridge, index * ROW, scale) for index, ridge in enumerate(ridges)]
    return chart(height + AXIS, title, _axis(scale, height, ridges[0].unit), *rows)


def _row(ridge: Ridge, top: float, scale: Scale) -> str:
    colour = "ours" if ridge.ours else "theirs"
    floor = top + 18 + SHAPE
    shape = tag(
        "svg",
        tag("path", d=_outline(ridge.counts, scale), class_=f"ridge {colour}"),
        y=top + 18, width="100%", height=SHAPE, viewBox=f"0 0 1000 {SHAPE}", preserveAspectRatio="none",
        class_="stretched",
    )  # fmt: skip
    total = sum(ridge.counts.values())
    marked = {part: quantile(ridge.counts, part) for part in MARKS if says_something(part, total)}
    said = ", ".join(f"p{part} {quantity(value, ridge.unit)}" for part, value in marked.items())
    marks = [
        line(percent(scale.place(value)), top + 18, percent(scale.place(value)), floor, f"mark {MARKS[part]}")
        for part, value in marked.items()
    ]
    strong = " strong" if ridge.ours else ""
    return tag(
        "g",
        hint(f"{ridge.name}: {said}; {total:,} values"),
        label(ridge.name, "0", top + 13, class_=f"name{strong}"),
        label(said, "100%", top + 13, anchor="end", class_=f"value{strong}"),
        shape,
        line("0", floor, "100%", floor, "base"),
        *marks,
    )


def _outline(counts: Mapping[str, int], scale: Scale) -> str:
    """Steps, as the buckets are: nothing is smoothed."""
    most = max(counts.values())
    found = {int(bucket): count for bucket, count in counts.items()}
    path = []
    for bucket in range(min(found), max(found) + 1):
        height = SHAPE * (1 - 0.96 * found.get(bucket, 0) / most)
        left, right = (1000 * scale.place(low_of(edge)) for edge in (bucket, bucket + 1))
        path.append(f"L{left:.1f} {height:.1f}L{right:.1f} {height:.1f}")
    begin, end = (1000 * scale.place(low_of(edge)) for edge in (min(found), max(found) + 1))
    return f"M{begin:.1f} {SHAPE}{''.join(path)}L{end:.1f} {SHAPE}Z"


def _axis(scale: Scale, height: float, unit: str) -> str:
    parts = []
    for value in scale.ticks:
        place = scale.place(value)
        parts.append(line(percent(place), 18, percent(place), height - 8, "grid"))
        parts.append(label(tick(value, unit), percent(place), height + 12, anchor=anchor(place), class_="tick"))
    return "".join(parts)
