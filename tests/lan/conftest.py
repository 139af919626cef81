from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lan.hosts import Lan, why_not


@pytest.fixture(scope="session")
def hosts_allowed() -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def lan(hosts_allowed: None, request: pytest.FixtureRequest) -> Iterator[Lan]:
    """An empty switch: ``lan.host("a")`` plugs in a host. What its processes said is shown where the test fails."""
    with Lan() as made:
        yield made
        report = getattr(request.node, "call_report", None)
        if report is not None and report.failed:
            print(made.logs())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if call.when == "call":
        item.call_report = report
    return report
