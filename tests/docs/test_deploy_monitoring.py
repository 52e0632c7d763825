"""The dashboard and the alerts ask for series that Interlock has, in the way that each can be asked for."""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from scripts import docs
from tests.docs.deployed import DEPLOY, ROOT, parsed, run, text, tool

#: Series that Prometheus makes itself, by their labels.
PROMETHEUS_OWN = {"up": set[str]()}
#: Labels of every series, from the scrape.
SCRAPED = {"job", "instance"}
#: Read from the store, so that every process tells the same: their sum over processes means nothing.
GLOBAL = {
    "interlock_in_flight", "interlock_oldest_in_flight_seconds", "interlock_deliveries_parked", "interlock_ended_twice",
}  # fmt: skip

RULES: list[dict[str, Any]] = [rule for group in parsed("prometheus/alerts.yaml")["groups"] for rule in group["rules"]]
CASES = ("alerts.test.yaml", "alerts.days.test.yaml")
TRIED = "\n".join(text(f"prometheus/{name}") for name in CASES)
DASHBOARD: dict[str, Any] = json.loads(text("grafana/interlock.json"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]


def known() -> dict[str, set[str]]:
    """Each metric with its labels, as they arrive: Prometheus renames one that it has itself."""
    mine = {name: set(labels.split(", ")) - {""} for name, _, labels, _ in docs.metrics()}
    source = (docs.SOURCE / "api" / "metrics.py").read_text("utf-8")
    for name, labels in re.findall(r'HistogramMetricFamily\(\s*"(\w+)".*?labels=\(([^)]*)\)', source, re.DOTALL):
        mine[f"{name}_bucket"] = {*re.findall(r'"(\w+)"', labels), "le"}
    return PROMETHEUS_OWN | {
        name: {f"exported_{label}" if label in SCRAPED else label for label in labels} for name, labels in mine.items()
    }


def expressions() -> Iterator[tuple[str, str]]:
    """Everything that is asked of Prometheus, with who asks."""
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in PANELS:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each series that an expression asks for, with the labels by which it is chosen."""
    for name, chosen in re.findall(r"\b((?:interlock|process)_[a-z_]+|up)\{([^}]*)\}", expression):
        yield name, set(re.findall(r"(\w+)\s*[=!]~?", chosen))


ASKED = [pytest.param(expression, id=who) for who, expression in expressions()]


@pytest.mark.parametrize("expression", ASKED)
def test_each_series_exists(expression: str) -> None:
    """Interlock has every metric that is asked for, with the labels by which it is chosen."""
    asked = list(selectors(expression))
    assert asked
    assert "exported_job" not in expression or "interlock_leader" in expression
    for name, labels in asked:
        assert name in known()
        assert labels - known()[name] - SCRAPED == set()


@pytest.mark.parametrize("expression", ASKED)
def test_each_series_is_of_interlock(expression: str) -> None:
    """Other processes of the same Prometheus have metrics of the same names; each is chosen by its job."""
    assert all("job" in labels for _, labels in selectors(expression))


@pytest.mark.parametrize("expression", ASKED)
def test_what_every_process_tells_is_not_added_up(expression: str) -> None:
    """Of a series that is read from the store the maximum over processes is taken, before anything else is done."""
    for name in GLOBAL:
        everywhere = len(re.findall(rf"\b{name}\{{", expression))
        assert len(re.findall(rf"\bmax(?: by \([a-z_, ]+\))? ?\({name}\{{", expression)) == everywhere


@pytest.mark.parametrize("expression", ASKED)
def test_quantiles_are_not_added_up(expression: str) -> None:
    """Quantiles of several processes have no sum and no mean; the worst is taken."""
    for name in (name for name, labels in known().items() if "quantile" in labels):
        assert re.search(rf"\b(?:sum|avg)[^(]*\({name}\b", expression) is None


def remedies(alert: str) -> Iterator[str]:
    """What the runbooks say is to be done: the last cell of each row of a table that begins with the alert's name."""
    for page in ("postgres-operations.md", "regions.md"):
        for line in (ROOT / "docs" / page).read_text("utf-8").splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if line.startswith("|") and len(cells) == 3 and re.search(rf"\b{alert}\b", cells[0]):
                yield cells[2]


# -- the alerts -------------------------------------------------------------------------------------------------------


def test_each_alert_has_its_own_name() -> None:
    """No two are called the same."""
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_each_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    """It has a severity, a sentence that names it, one that explains it, and leads to where its remedy stands."""
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    content = (ROOT / page).read_text("utf-8")
    headings = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", content, re.MULTILINE)
    }
    assert anchor in headings
    assert any(remedy for remedy in remedies(rule["alert"]))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_each_alert_is_tried(rule: dict[str, Any]) -> None:
    """There is a case in which it fires."""
    assert re.search(rf"(?:alertname: |alertname=\"){rule['alert']}\b", TRIED)


def test_alerts_fire_when_they_should() -> None:
    """Prometheus' own tool takes the rules, the example configuration, and runs the cases."""
    program = tool("promtool")
    folder = DEPLOY / "prometheus"
    run(program, "check", "rules", folder / "alerts.yaml")
    run(program, "check", "config", "--syntax-only", folder / "prometheus.example.yaml")
    run(program, "test", "rules", *CASES, cwd=folder)


# -- the dashboard ----------------------------------------------------------------------------------------------------


def test_panels_have_places_of_their_own() -> None:
    """Ids are unique, and no panel covers another or leaves the page."""
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)

    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        at = panel["gridPos"]
        return {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}

    assert all(x < 24 for panel in PANELS for x, _ in cells(panel))
    assert [(one["title"], two["title"]) for one, two in combinations(PANELS, 2) if cells(one) & cells(two)] == []


def test_the_dashboard_asks_whom_it_is_told_to_ask() -> None:
    """Which Prometheus and which job are variables, so that it can be imported anywhere."""
    assert {variable["name"] for variable in DASHBOARD["templating"]["list"]} == {"datasource", "job"}
    sources = {json.dumps(target["datasource"]) for panel in PANELS for target in panel.get("targets", ())}
    assert sources == {'{"type": "prometheus", "uid": "${datasource}"}'}
    assert all(
        labels.count('job="$job"') == 1
        for panel in PANELS
        for target in panel.get("targets", ())
        for labels in re.findall(r"\{([^}]*)\}", target["expr"])
    )


def test_the_dashboard_begins_with_the_question() -> None:
    """Whether money is stuck is answered first."""
    assert (PANELS[0]["type"], PANELS[0]["title"]) == ("row", "Is money stuck?")
    first_row = [panel["title"] for panel in PANELS[1:7]]
    assert {"Held by a fault of ours", "Oldest in flight", "Deadlines late (p99)"} <= set(first_row)


def test_prometheus_understands_the_dashboard(tmp_path: Path) -> None:
    """Each expression of the dashboard is PromQL."""
    asked = (expression for who, expression in expressions() if who not in {rule["alert"] for rule in RULES})
    rules = [
        {"record": f"panel_{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, expression in enumerate(asked)
    ]
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}), "utf-8")
    run(tool("promtool"), "check", "rules", tmp_path / "rules.yaml")
