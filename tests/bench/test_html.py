"""Reports as a page: whole, by itself, and whatever names stand in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from bench.figures import Figure
from bench.html.bars import Bar, bar_chart
from bench.html.grouping import groups
from bench.html.page import page
from bench.html.quantities import quantity, readable_name, tick
from bench.html.ridges import Ridge, ridge_chart
from bench.html.scales import fitting, linear, logarithmic
from bench.report import Distribution, Report
from tests.bench.reports import MACHINE, comparison, report

VOID = {"meta", "link"}


class Elements(HTMLParser):
    """Fails where an element is not closed, or refers to something outside of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, name, attributes):
        for key, value in attributes:
            if key in ("src", "href"):
                assert value.startswith(("#", "data:")), value
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        self.words.append(data)


def read(text: str) -> str:
    elements = Elements()
    elements.feed(text)
    assert not elements.open
    return " ".join(elements.words)


def test_a_page_shows_figures_ratios_settings_and_the_machine():
    words = read(page([report(tasks_per_s=85_000.0, ratios={"to_executor": 9.5})], "today"))
    assert "taskmesh bench: throughput" in words and "Some CPU, 2 CPUs, Python 3.11.7; today" in words
    assert "85,000 tasks/s" in words and "76,500 tasks/s" in words and "93,500 tasks/s" in words
    assert "9.50 x" in words and "pyzmq 27" in words


def test_a_page_asks_for_nothing_from_anywhere():
    text = page([comparison(), report(tasks_per_s=1.0)], "today")
    assert "default-src 'none'" in text
    assert not re.search(r"https?:|url\(|@import|<script", text)


def test_a_page_of_several_reports_leads_to_each_of_them():
    text = page([report("throughput", tasks_per_s=1.0), report("latency", p50_us=100.0)], "today")
    assert 'href="#latency"' in text and 'id="latency"' in text


def test_a_comparison_has_a_row_for_each_and_says_who_is_missing():
    words = read(page([comparison()], "today"))
    assert "rq-fork" in words and "redis-server 7" in words and "90.0 x" in words
    assert "make bench-peers PEERS=ray" in words
    assert "it ended <suddenly>" in words, "it is escaped, so that it can be read"


@pytest.mark.parametrize("value", [0.0, 1e-9, 1.0, 1e12])
def test_any_figure_can_be_drawn(value):
    figures = {'<name> & "more"_us': Figure(value, value, value, "us"), "n_1_s": Figure(value, 0.0, value, "furlong")}
    read(page([Report("new", {"x": [1, None, {"y": True}]}, {}, figures)], "today"))


def test_a_report_without_figures_is_a_page_too():
    read(page([Report("new", {}, dict(MACHINE))], "today"))


def test_figures_that_count_something_are_a_line_over_it():
    figures = {f"nodes_{count}_tasks_per_s": Figure(count, count, count, "tasks/s") for count in (8, 1, 2)}
    [group] = groups(figures)
    [series] = group.series
    assert [written for _, written, _ in series.points] == ["1", "2", "8"]
    assert [place for place, _, _ in series.points] == pytest.approx([0, 1 / 3, 1]), "steps that multiply alike"


def test_sizes_with_units_are_in_their_order_and_lines_over_the_same_share_a_chart():
    sizes = ("100mib", "1kib", "64kib")
    figures = {
        f"{who}_{size}_mb_per_s": Figure(1, 1, 1, "MB/s") for who in ("bytes", "executor_bytes") for size in sizes
    }
    [group] = groups(figures)
    assert [series.name for series in group.series] == ["bytes", "executor bytes"]
    assert [written for _, written, _ in group.series[0].points] == ["1 KiB", "64 KiB", "100 MiB"]


def test_percentiles_are_a_line_of_even_steps():
    figures = {name: Figure(1, 1, 1, "us") for name in ("p50_us", "p99_us", "p999_us", "floor_p50_us", "floor_p99_us")}
    ours, floor = (group.series[0] for group in groups(figures))
    assert [written for _, written, _ in ours.points] == ["p50", "p99", "p99.9"] and ours.name == "mesh"
    assert floor.name == "floor"


def test_the_page_says_of_percentiles_what_they_are_of():
    """Of all values together in the distribution, the median over the runs in the figures: they are not the same."""
    found = report("latency", p50_us=100.0, p95_us=150.0, p99_us=200.0)
    found.distributions = {"round_trip": Distribution("us", {"50": 990, "60": 20})}
    words = read(page([found], "today"))
    assert "percentiles of each run" in words
    assert "Distribution of all runs together" in words and "p50 105 µs, p99 263 µs" in words
    assert "In the figures stands the median of what the percentile is in each run." in words


def test_a_distribution_marks_no_percentile_that_says_nothing():
    text = ridge_chart("times", [Ridge("mesh", {"50": 989, "60": 10}, "us")])
    assert "p50 105 µs" in text and "p99" not in text and text.count('class="mark') == 1


def test_the_first_tiles_are_of_the_mesh_where_it_has_figures():
    def tiles(**medians):
        return re.findall(r'class="tile">.*?<span>(.*?)</span>', page([report(**medians)], "today"))

    assert tiles(p50_us=1.0, floor_p50_us=1.0, p95_us=1.0, floor_p95_us=1.0) == ["p50", "p95"]
    assert tiles(floor_tasks_per_s=1.0, floor_p50_us=1.0) == ["floor", "floor p50"]


def test_an_executor_is_of_the_mesh_where_nothing_of_the_mesh_stands_beside_it():
    beside = page([report(tasks_per_s=1.0, executor_tasks_per_s=1.0)], "today")
    alone = page([report("recovery", executor_all_us=1.0, worker_all_us=1.0)], "today")
    assert beside.count("bar ours") == beside.count("bar theirs") == 1
    assert alone.count("bar ours") == 2 and "bar theirs" not in alone


def test_the_distribution_of_the_executor_is_not_of_the_mesh():
    found = report("latency", p50_us=100.0, floor_p50_us=100.0, executor_p50_us=100.0)
    found.distributions = {name: Distribution("us", {"50": 20}) for name in ("round_trip", "floor", "executor")}
    text = page([found], "today")
    assert text.count("ridge ours") == 1 and text.count("ridge theirs") == 2


def test_two_counted_figures_are_no_line_and_the_rest_is_grouped_by_unit():
    figures = {
        "drain_10k_per_s": Figure(1, 1, 1, "tasks/s"),
        "drain_1m_per_s": Figure(1, 1, 1, "tasks/s"),
        "router_mib": Figure(1, 1, 1, "MiB"),
    }
    found = groups(figures)
    assert [group.figures and list(group.figures) for group in found] == [
        ["drain_10k_per_s", "drain_1m_per_s"],
        ["router_mib"],
    ]


def test_what_a_linear_scale_would_hide_is_drawn_on_a_logarithmic_one():
    assert not fitting([10.0, 500.0]).logarithmic
    scale = fitting([10.0, 50_000.0])
    assert scale.logarithmic and scale.place(10.0) == 0 and scale.place(50_000.0) == 1
    assert scale.ticks == (10.0, 100.0, 1_000.0, 10_000.0)


@pytest.mark.parametrize("most", [0.0, 0.3, 7.0, 1_234.0, 1e9])
def test_a_linear_scale_ends_at_a_round_number(most):
    scale = linear(most)
    assert scale.high >= most and 2 <= len(scale.ticks) <= 7 and scale.ticks[-1] == pytest.approx(scale.high)


def test_a_logarithmic_scale_of_one_value_has_two_ends():
    scale = logarithmic(10.0, 10.0)
    assert scale.low < scale.high and len(scale.ticks) >= 2


def test_a_chart_says_the_range_of_the_runs_to_the_pointer():
    text = bar_chart("rates", [Bar("mesh", Figure(100.0, 90.0, 110.0, "tasks/s"), ours=True)])
    assert "mesh: 100 tasks/s (90.0 tasks/s to 110 tasks/s)" in text


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (160.4, "us", "160 µs"),
        (0.5, "us", "0.50 µs"),
        (99.999, "ms", "100 ms"),
        (2_500_000, "us", "2.50 s"),
        (16.84, "us/task", "16.8 µs/task"),
        (85_123.4, "tasks/s", "85,123 tasks/s"),
        (1.05, "x ideal", "1.05 x ideal"),
        (0, "s", "0 µs"),
    ],
)
def test_quantities_have_three_digits_and_a_unit_that_suits(value, unit, expected):
    assert quantity(value, unit) == expected


def test_what_stands_beside_an_axis_is_short():
    assert [tick(value, "us") for value in (0, 10, 1_500, 1e6)] == ["0", "10 µs", "1.5 ms", "1 s"]
    assert [tick(value, "tasks/s") for value in (0.5, 2.5, 50, 1e3, 1e5, 1e6)] == [
        "0.5",
        "2.5",
        "50",
        "1,000",
        "100k",
        "1M",
    ]


def test_names_lose_the_unit_that_is_written_elsewhere():
    assert readable_name("executor_map_tasks_per_s") == "executor map"
    assert readable_name("tasks_per_s") == "tasks"


def test_a_page_says_what_is_better_and_what_the_names_mean():
    figures = {"tasks_per_s": 1.0, "curve_tasks_per_s": 1.0, "map_tasks_per_s": 1.0, "floor_tasks_per_s": 1.0}
    words = read(page([report(ratios={"to_floor": 0.2, "cpu_to_floor": 9.0}, **figures)], "today"))
    assert "Of rates (per second) more is better" in words and "of times, processor time and memory less" in words
    assert all(f"{word}: " in words for word in ("curve", "map", "floor"))
    assert "to floor (more is better)" in words and "cpu to floor (less is better)" in words
    words = read(page([report("recovery", next_us=1.0)], "today"))
    assert not any(f"{word}: " in words for word in ("curve", "map", "floor"))
