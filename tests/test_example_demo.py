"""The demonstration, whole, with less traffic."""

from __future__ import annotations

import pytest

from example_project import demo

pytestmark = pytest.mark.heavy


def test_the_demonstration_prints_the_report_and_the_comparison(
    shop_database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", shop_database_url)
    monkeypatch.setattr(demo, "REQUESTS", 240)
    monkeypatch.setattr(demo, "CALM_REQUESTS", 120)
    assert demo.run() == 0
    printed = capsys.readouterr().out
    assert "$ manage.py pool_report" in printed
    assert "GET api-call/" in printed
    header = next(line for line in printed.splitlines() if line.startswith("240 requests, 16 clients"))
    for engine, name in demo.NAMES.items():
        assert (name in header) is (engine == "native" or demo.has_releasing_engine())
    row = next(line for line in printed.splitlines() if line.startswith("connection held p50"))
    assert row.split()[-1] == "ms"
    assert float(row.split()[-2]) > 0
    advice = printed.partition("\nAdvice\n")[2]
    for policy in ("request", "query"):
        assert f"  Policy {policy}: " in advice
    assert '    DATABASES["default"]' in advice or "No advice, because" in advice


def test_requests_that_failed_fail_the_demonstration(
    shop_database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", shop_database_url)
    monkeypatch.setattr(demo, "REQUESTS", 3)
    monkeypatch.setattr(demo, "shop_requests", lambda count: ["/quick/", "/nothing/", "/sql/?ms=x"])
    assert demo.run() == 1
    assert "requests failed; the first: /" in capsys.readouterr().err
