from collections.abc import Mapping
from decimal import Decimal

import pytest

from interlock.routes import DecisionRule, Route, Routes

INSTANT = Route(name="instant", messages=("pacs.008.*",), clients=frozenset({"a", "b"}))
CARDS = Route(name="cards", messages=("pain.001.001.09", "pain.008.*"))
REST = Route(name="rest")
DEFAULT = Route(name="default")


@pytest.mark.parametrize(
    ("client", "definition", "name"),
    [
        ("a", "pacs.008.001.08", "instant"),
        ("b", "pacs.008.001.12", "instant"),
        ("c", "pacs.008.001.08", "default"),
        ("a", "pacs.009.001.08", "default"),
        ("a", "pain.001.001.09", "cards"),
        ("a", "pain.001.001.03", "default"),
        ("a", "pacs.008", "instant"),
        ("a", "pacs.0080", "default"),
        ("a", "pacs.00", "default"),
        ("a", "pacs", "default"),
        ("a", "", "default"),
        ("a", None, "default"),
        ("c", "pain.008", "cards"),
        ("c", "PAIN.008.001.08", "default"),
    ],
)
def test_the_first_that_serves_is_chosen(client: str, definition: str | None, name: str) -> None:
    """By client and message, in the operator's order; what none serves goes the default's way."""
    assert Routes([INSTANT, CARDS], DEFAULT).choose(client, definition).name == name


def test_order_is_the_operators() -> None:
    """Of two that serve, the one listed first."""
    assert Routes([REST, INSTANT], DEFAULT).choose("a", "pacs.008.001.08") is REST
    assert Routes([INSTANT, REST], DEFAULT).choose("a", "pacs.008.001.08") is INSTANT
    assert Routes([INSTANT, REST], DEFAULT).choose("a", None) is REST


def test_a_route_that_is_gone_leaves_its_transactions_to_the_default() -> None:
    """By name, also where the operator has taken the route out of the configuration."""
    routes = Routes([INSTANT], DEFAULT)
    assert routes.named("instant") is INSTANT
    assert routes.named("no longer there") is DEFAULT
    assert routes.named("default") is DEFAULT


@pytest.mark.parametrize(
    ("rule", "above", "payments", "needs"),
    [
        (DecisionRule.AUTO, {}, [("999999", "EUR")], False),
        (DecisionRule.CONSUMER, {}, [("0.01", "EUR")], True),
        (DecisionRule.CONSUMER, {}, [], True),
        (DecisionRule.AUTO, {"EUR": "100"}, [("100", "EUR")], False),
        (DecisionRule.AUTO, {"EUR": "100"}, [("100.00", "EUR")], False),
        (DecisionRule.AUTO, {"EUR": "100"}, [("100.01", "EUR")], True),
        (DecisionRule.AUTO, {"EUR": "100"}, [("1000", "USD")], False),
        (DecisionRule.AUTO, {"EUR": "100", "USD": "5"}, [("1", "EUR"), ("6", "USD")], True),
        (DecisionRule.AUTO, {"EUR": "100"}, [("1", "EUR"), ("1", "EUR"), ("101", "EUR")], True),
        (DecisionRule.AUTO, {"EUR": "100"}, [(None, "EUR")], True),
        (DecisionRule.AUTO, {"EUR": "100"}, [(None, None)], False),
        (DecisionRule.AUTO, {"EUR": "100"}, [], False),
    ],
)
def test_who_must_decide(
    rule: DecisionRule, above: Mapping[str, str], payments: list[tuple[str | None, str | None]], needs: object
) -> None:
    """A consumer, where the route says so, or where one payment is above the amount for its currency or unreadable."""
    route = Route(name="r", decision=rule, decision_above={key: Decimal(value) for key, value in above.items()})
    amounts = [(None if amount is None else Decimal(amount), currency) for amount, currency in payments]
    assert route.needs_decision(amounts) is needs
