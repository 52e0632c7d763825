#!/usr/bin/env python3
"""Writes the generated parts of the docs: what stands between `<!-- generated: NAME -->` and `<!-- end -->`.

Each part is made from the code that it describes, so that the docs cannot lie; `tests/docs` fails where one is stale.
`make docs` writes them; with --check nothing is written, and the exit code is 1 if something is stale.
"""

import ast
import inspect
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from enum import Enum, StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from interlock import lifecycle
from interlock.errors import ConfigError, DependencyError, InterlockError, OutcomeUnknown
from interlock.iso20022.codes import Status
from interlock.iso20022.rules import Rule
from interlock.lifecycle import TABLE, Effect, EventKind, Move, State

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "interlock"
#: What each generated part stands between.
_PART = re.compile(r"(<!-- generated: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
#: Help texts are filled to this width, whatever the terminal.
_HELP_COLUMNS = 100


def pages() -> tuple[Path, ...]:
    """Every page that can have generated parts."""
    return (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def filled(text: str) -> str:
    """A page with all its generated parts as they must be. Raises KeyError for a part that nobody makes."""
    return _PART.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]()}\n\n{found[3]}", text)


def main(arguments: Sequence[str]) -> int:
    """Write, or with --check only look; the exit code."""
    stale = 0
    for page in pages():
        text = page.read_text("utf-8")
        if (fresh := filled(text)) == text:
            continue
        stale += 1
        if "--check" not in arguments:
            page.write_text(fresh, "utf-8")
        sys.stdout.write(f"{page.relative_to(ROOT)}\n")
    return 1 if stale and "--check" in arguments else 0


# ---------------------------------------------------------------------------------------------------------------------
# Markdown, and what can be read from source
# ---------------------------------------------------------------------------------------------------------------------


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; a `|` in a cell is kept from ending it."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def sentence(doc: str | None) -> str:
    """The first line of a docstring, without its full stop."""
    return (doc or "").strip().partition("\n")[0].removesuffix(".")


def described(kind: type[Enum]) -> Mapping[str, str]:
    """The `#:` comment above each member of an enumeration, by the member's value."""
    said: dict[str, str] = {}
    lines: list[str] = []
    for line in inspect.getsource(kind).splitlines():
        stripped = line.strip()
        if stripped.startswith("#:"):
            lines.append(stripped.removeprefix("#:").strip())
        elif (member := re.match(r"([A-Z_]+) = ", stripped)) is not None:
            said[str(kind[member[1]].value)] = " ".join(lines)
            lines = []
    return said


def built_events() -> frozenset[EventKind]:
    """The events that something here takes; the rest of the table waits for regions, checks and downstreams."""
    taken = {EventKind.ENDED}
    for path in SOURCE.rglob("*.py"):
        if path.name not in {"lifecycle.py", "chain.py"}:
            names = re.findall(r"\bEventKind\.([A-Z_]+)", path.read_text("utf-8"))
            taken.update(EventKind[name] for name in names)
    return frozenset(taken)


# ---------------------------------------------------------------------------------------------------------------------
# The lifecycle
# ---------------------------------------------------------------------------------------------------------------------


class Edge(NamedTuple):
    """A move in a diagram."""

    source: str
    target: str
    event: EventKind


def _ends(move: Move, *, alone: bool) -> Iterator[str]:
    """Names of the states that a move leads to; none where it stays."""
    if move.effect is Effect.GO:
        assert move.to is not None  # the table's own shape
        yield move.to.value
    elif move.effect is Effect.END:
        assert move.end is not None  # the table's own shape
        yield move.end.value if alone else State.ENDING.value


def edges(events: Iterable[EventKind], *, alone: bool) -> list[Edge]:
    """The moves that these events make, between states that can be reached by them; alone: an intended end is one."""
    wanted = [event for event in EventKind if event in set(events)]
    moves = [
        Edge(state.value, target, event)
        for event in wanted
        for state, move in TABLE[event].items()
        for target in _ends(move, alone=alone)
        if target != state.value
    ]
    reached = {State.NONE.value}
    while more := {edge.target for edge in moves if edge.source in reached} - reached:
        reached |= more
    return [edge for edge in moves if edge.source in reached]


def diagram(moves: Sequence[Edge], *, group: str) -> str:
    """The moves in Mermaid; what every state before the release can do is drawn once, from around all of them."""
    names = list(dict.fromkeys(name for edge in moves for name in (edge.source, edge.target)))
    ends = {status.value for status in Status if status.is_final} | {State.ENDING.value, State.END.value}
    leaving = {edge.source for edge in moves if edge.event is EventKind.CANCELLED}
    inside = [name for name in names if name in leaving]
    common = {
        (edge.target, edge.event)
        for edge in moves
        if all(Edge(name, edge.target, edge.event) in moves for name in inside) and edge.target in ends
    }
    lines = ["stateDiagram-v2", "    direction LR"]
    lines += _aliases((name for name in names if name not in inside), indent=4)
    lines.append(f'    state "{group}" as open {{')
    lines += _aliases(inside, indent=8)
    lines += _arrows([e for e in moves if {e.source, e.target} <= set(inside)], indent=8)
    lines.append("    }")
    outer = [e for e in moves if not {e.source, e.target} <= set(inside) and (e.target, e.event) not in common]
    lines += _arrows(outer, indent=4)
    lines += _arrows([Edge("open", target, event) for target, event in _ordered(common)], indent=4)
    finals = [name for name in names if name in ends and not any(edge.source == name for edge in moves)]
    lines += [f"    {_id(name)} --> [*]" for name in finals]
    return "```mermaid\n" + "\n".join(lines) + "\n```"


def _aliases(names: Iterable[str], *, indent: int) -> list[str]:
    """Declares the names that Mermaid cannot take as they are."""
    odd = (name for name in names if _id(name) not in (name, "[*]"))
    return [f'{" " * indent}state "{name}" as {_id(name)}' for name in odd]


def _ordered(pairs: Iterable[tuple[str, EventKind]]) -> list[tuple[str, EventKind]]:
    order = list(EventKind)
    return sorted(pairs, key=lambda pair: (pair[0], order.index(pair[1])))


def _arrows(moves: Iterable[Edge], *, indent: int) -> list[str]:
    """An arrow for each pair of states, with all its events."""
    labels: dict[tuple[str, str], list[str]] = defaultdict(list)
    for edge in moves:
        labels[edge.source, edge.target].append(edge.event.value)
    return [
        f"{' ' * indent}{_id(source)} --> {_id(target)}: {', '.join(dict.fromkeys(events))}"
        for (source, target), events in labels.items()
    ]


def _id(name: str) -> str:
    return "[*]" if name == State.NONE.value else re.sub(r"\W", "_", name)


def _lifecycle_today() -> str:
    return diagram(edges(built_events(), alone=True), group="not released yet")


def _lifecycle_whole() -> str:
    return diagram(edges(EventKind, alone=False), group="not released yet")


_CELL = {Effect.STAY: "=", Effect.FLAG: "rec", Effect.INCIDENT: "rec !", Effect.APART: "some↓"}


def cell(move: Move | None) -> str:
    """A cell of the table as the docs show it."""
    match move:
        case None:
            return "·"
        case Move(effect=Effect.GO, to=State() as to):
            return to.value
        case Move(effect=Effect.END, end=Status() as end):
            return f"{end.value}↓"
        case _:
            return _CELL[move.effect]


def _lifecycle_table() -> str:
    built = built_events()
    return table(
        ("event", *(state.value for state in State)),
        (
            (f"**{event}**" if event in built else event, *(cell(TABLE[event].get(state)) for state in State))
            for event in EventKind
        ),
    )


def _lifecycle_states() -> str:
    said = described(State)
    shown = {state: lifecycle._STATUS.get(state) for state in State}  # noqa: SLF001 - its own documentation
    return table(
        ("state", "status shown", "what it is, and who moves it on"),
        ((f"`{state}`", f"`{shown[state]}`" if shown[state] else "", said[state.value]) for state in State),
    )


def _decisions() -> str:
    """Where each decision is legal, among the states that there are today."""
    from interlock.decisions import _EVENT  # what each decision makes

    today = {edge.source for edge in edges(built_events(), alone=True)} - {State.NONE.value}
    shown = [state for state in State if state.value in today]
    rows = [
        (f"**{kind}**", *("yes" if state in TABLE[event] else "" for state in shown), "", "", "")
        for kind, event in _EVENT.items()
    ]
    rows.append(("**redrive**", *("" for _ in shown), "", "for some reasons", "yes"))
    ends = ("ACSC", "RJCT", "CANC")
    return table(("decision", *(f"`{state.value}`" for state in shown), *(f"`{end}`" for end in ends)), rows)


# ---------------------------------------------------------------------------------------------------------------------
# Settings
# ---------------------------------------------------------------------------------------------------------------------


def _default(value: object) -> str:
    match value:
        case None | () | "":
            return "none"
        case dict():
            return "none"
        case bool():
            return f"`{str(value).lower()}`"
        case BaseModel():
            return "none"
        case float() if value.is_integer():
            return f"`{int(value)}`"
        case _:
            return f"`{value}`"


_COMPARISONS = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}


def _allowed(field: FieldInfo) -> str:
    """What a setting can be, where that is bounded."""
    kind: Any = field.annotation
    if get_origin(kind) is Literal:
        return ", ".join(f"`{word}`" for word in get_args(kind))
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return ", ".join(f"`{word}`" for word in kind)
    if kind is bool:
        return "`true`, `false`"
    return ", ".join(
        f"{words} {getattr(limit, name):,.10g}".replace(",", " ")
        for limit in field.metadata
        for name, words in _COMPARISONS.items()
        if getattr(limit, name, None) is not None
    )


def _settings(model: type[BaseModel], *, variable: Callable[[str], str | None]) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        from_environment = variable(name)
        yield (
            f"`{name}`",
            f"`{from_environment}`" if from_environment else "file only",
            "must be given" if field.is_required() else _default(field.default),
            _allowed(field),
            field.description or "",
        )


_SETTING_HEADINGS = ("setting", "variable", "default", "allowed", "what it is")


def _config_settings() -> str:
    from interlock.config import ENVIRONMENT_PREFIX, Config

    def variable(name: str) -> str | None:
        return None if name in ("routes", "regions", "clients") else f"{ENVIRONMENT_PREFIX}{name.upper()}"

    return table(_SETTING_HEADINGS, _settings(Config, variable=variable))


def _route_settings() -> str:
    from interlock.config import RouteConfig

    return _table_settings(RouteConfig)


def _peer_settings() -> str:
    from interlock.config import PeerConfig

    return _table_settings(PeerConfig)


def _client_settings() -> str:
    from interlock.config import ClientConfig

    return _table_settings(ClientConfig)


def _profiles_settings() -> str:
    from interlock.config import ProfilesConfig

    return _table_settings(ProfilesConfig)


def _table_settings(kind: type[BaseModel]) -> str:
    """Settings of a TOML table, which no variable gives."""
    rows = _settings(kind, variable=lambda _: None)
    return table(
        [heading for heading in _SETTING_HEADINGS if heading != "variable"],
        ([name, *rest] for name, _, *rest in rows),
    )


# ---------------------------------------------------------------------------------------------------------------------
# HTTP
# ---------------------------------------------------------------------------------------------------------------------


def errors() -> Iterator[type[InterlockError]]:
    """Every error that HTTP can tell, by status and code; of several with one code the nearest to the root."""
    from interlock.api import problems

    surface()  # imports the faces, so that every class below is there
    seen: dict[str, type[InterlockError]] = {}
    waiting = [InterlockError]
    while waiting:
        kind = waiting.pop(0)
        if not issubclass(kind, ConfigError):
            seen.setdefault(kind.code, kind)
            waiting.extend(kind.__subclasses__())
    return iter(sorted(seen.values(), key=lambda kind: (problems.kind_of(kind("")).status, kind.code)))


def _remedy(error: type[InterlockError], status: int) -> str:
    if issubclass(error, OutcomeUnknown):
        return "ask by id, or send the same with its idempotency key"
    return "the same again, later" if issubclass(error, DependencyError) or status in (408, 503) else ""


def _http_errors() -> str:
    from interlock.api.problems import kind_of

    rows = []
    for error in errors():
        status, title = kind_of(error(""))
        rows.append((f"`{error.code}`", status, title, sentence(error.__doc__), _remedy(error, status)))
    return table(("code", "status", "title", "what it says", "what helps"), rows)


@lru_cache(maxsize=1)
def surface() -> tuple[tuple[tuple[str, str], ...], Mapping[str, Any]]:
    """Method and path of the calls that are answered directly, and the OpenAPI document of v1."""
    from interlock.api.asgi import Faces
    from interlock.api.openapi import document_of
    from interlock.app import Interlock
    from interlock.config import Config

    with tempfile.TemporaryDirectory() as folder:
        interlock = Interlock(Config(data=Path(folder)))
        try:
            faces = Faces(interlock, endpoint="localhost")
            return tuple(faces._hot), document_of(faces._wide)  # noqa: SLF001 - its own documentation
        finally:
            interlock.store.close()


def _endpoints() -> str:
    from interlock.auth import Scope

    _, document = surface()
    rows = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            scopes = [f"`{scope}`" for entry in operation.get("security", ()) for scope in entry["oauth2"]]
            text = sentence(operation.get("description") or operation["summary"]).partition(". ")[0]
            allowed = "any" if len(scopes) == len(Scope) else " or ".join(scopes)
            rows.append((path, f"`{method.upper()} {path}`", allowed or "no token", text))
    return table(("call", "scope", "what it does"), (row[1:] for row in sorted(rows)))


def metrics() -> Iterator[tuple[str, str, str, str]]:
    """Name, kind, labels and text of each metric, read from the source of the module that gathers them."""
    tree = ast.parse((SOURCE / "api" / "metrics.py").read_text("utf-8"))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or len(node.args) < 2:
            continue
        if node.func.id not in {"CounterMetricFamily", "GaugeMetricFamily", "HistogramMetricFamily", "_quantiles"}:
            continue
        name, text = (arg.value if isinstance(arg, ast.Constant) else None for arg in node.args[:2])
        if not isinstance(name, str) or not isinstance(text, str):
            continue
        counts = node.func.id == "CounterMetricFamily"
        labels = ["quantile"] if node.func.id == "_quantiles" else []
        for keyword in node.keywords:
            if keyword.arg == "labels":
                labels = list(ast.literal_eval(keyword.value))
        kind = {"CounterMetricFamily": "counter", "HistogramMetricFamily": "histogram"}.get(node.func.id, "gauge")
        yield f"{name}_total" if counts else name, kind, ", ".join(labels), text


def _metrics() -> str:
    rows = ((f"`{name}`", kind, labels, text.removesuffix(".")) for name, kind, labels, text in sorted(metrics()))
    return table(("metric", "kind", "labels", "what it is"), rows)


# ---------------------------------------------------------------------------------------------------------------------
# The command line
# ---------------------------------------------------------------------------------------------------------------------


def commands() -> Mapping[tuple[str, ...], str]:
    """The help text of every command, by its words; the empty one is `interlock` itself."""
    import typer.main
    from typer.testing import CliRunner

    from interlock.cli import app

    def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield words
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, (*words, name))

    runner = CliRunner()
    texts = {}
    for words in walk(typer.main.get_command(app), ()):
        arguments = [*words, "--help"]
        result = runner.invoke(app, arguments, prog_name="interlock", terminal_width=_HELP_COLUMNS)
        texts[words] = "\n".join(line.rstrip() for line in result.output.strip().splitlines())
    return texts


def _cli() -> str:
    parts = []
    for words, text in commands().items():
        name = " ".join(("interlock", *words))
        level = "###" if len(words) < 2 else "####"
        parts.append(f"{level} `{name}`\n\n```text\n{text}\n```")
    return "\n\n".join(parts)


def _exit_codes() -> str:
    from interlock.cli.exits import MEANING

    return table(("code", "name", "meaning"), ((code.value, code.name, text) for code, text in MEANING.items()))


# ---------------------------------------------------------------------------------------------------------------------
# ISO 20022
# ---------------------------------------------------------------------------------------------------------------------


def _reason(code: str) -> str:
    from interlock.iso20022.reasons import STATUS_REASONS

    known = STATUS_REASONS.get(code)
    return f"`{code}`" if known is None or known.name is None else f"`{code}` {known.name}"


def _valid(first: date | None, last: date | None) -> str:
    return f"{first or ''} to {last or ''}".strip() if first or last else "always"


def _rules_by_default() -> str:
    """The rules that every message is held to."""
    from interlock.iso20022.rules import RULES

    return _rule_table(rule for rule in RULES.values() if rule.is_default)


def _rules_of_profiles() -> str:
    """The rules that hold only where a profile turns them on."""
    from interlock.iso20022.rules import RULES

    return _rule_table(rule for rule in RULES.values() if not rule.is_default)


def _rule_table(rules: Iterable[Rule]) -> str:
    rows = (
        (
            f"`{rule.id}`",
            rule.severity,
            _reason(rule.reason),
            _places(rule.looks_at),
            rule.text,
            rule.source,
            _holds(rule.valid_from, rule.valid_until, rule.families, rule.exempt),
        )
        for rule in rules
    )
    return table(("rule", "weight", "ISO reason", "looks at", "what it says", "source", "holds"), rows)


def _places(looks_at: str) -> str:
    """Kinds are words, elements are names."""
    kinds = {"payment", "message", "header", "document"}
    return looks_at if looks_at in kinds else ", ".join(f"`{name}`" for name in looks_at.split(", "))


def _holds(first: date | None, last: date | None, families: Iterable[str], exempt: Iterable[str]) -> str:
    said = [_valid(first, last)]
    for words, names in (("for", families), ("not for", exempt)):
        listed = ", ".join(f"`{name}`" for name in names)
        if listed:
            said.append(f"{words} {listed}")
    return "; ".join(said)


def _calendars() -> str:
    from interlock.iso20022.calendars import CALENDARS

    rows = []
    for name, calendar in CALENDARS.items():
        days = ", ".join(holiday.name for holiday in calendar.holidays)
        hours = "; ".join(
            f"{', '.join(f'`{family}`' for family in one.families)} {one.time:%H:%M}" for one in calendar.cut_offs
        )
        known = _valid(calendar.known_from, calendar.known_until)
        rows.append((f"`{name}`", calendar.title, calendar.currency, days, f"{hours} ({calendar.zone.key})", known))
    return table(("calendar", "system", "currency", "closed on weekends and", "cut-offs, local time", "known"), rows)


def _character_sets() -> str:
    from interlock.iso20022.rules import CHARACTER_SETS

    rows = ((f"`{name}`", one.title, one.source) for name, one in CHARACTER_SETS.items())
    return table(("set", "what it has", "source"), rows)


def schema_findings() -> tuple[str, ...]:
    """The ids of what schema validation can find."""
    from interlock.iso20022.schemas.wording import KINDS

    return tuple(f"schema.{kind}" for kind in sorted(KINDS, key=str.lower))


def _definitions() -> str:
    from interlock.iso20022.schemas import packages

    versions: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, package in sorted(packages.offered().items()):
        message, _, version = name.rpartition(".001.")
        versions[message][package.extra].append(version)
    rows = (
        (f"`{message}`", *(", ".join(_runs(found[extra])) for extra in ("", "catalogue")))
        for message, found in versions.items()
    )
    return table(("message", "versions", "more with `interlock[catalogue]`"), rows)


def _runs(numbers: Sequence[str]) -> Iterator[str]:
    """`01` to `03`, then `05`: neighbours are drawn together."""
    runs: list[list[str]] = []
    for number in numbers:
        if runs and int(runs[-1][-1]) + 1 == int(number):
            runs[-1].append(number)
        else:
            runs.append([number])
    return (run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def _schema_findings() -> str:
    return ", ".join(f"`{rule}`" for rule in schema_findings())


def answers_made() -> dict[str, list[str]]:
    """The answers that can come, and to which messages: those that a schema is here for."""
    from interlock.iso20022.answers import SHAPES
    from interlock.iso20022.schemas import packages

    known = packages.offered()
    served = {name: [request for request in shape.requests if request in known] for name, shape in SHAPES.items()}
    return {name: requests for name, requests in served.items() if requests}


def _answers() -> str:
    rows = ((f"`{name}`", ", ".join(f"`{one}`" for one in requests)) for name, requests in answers_made().items())
    return table(("answer", "to these messages"), rows)


def enquiries_made() -> dict[str, list[str]]:
    """The answers to requests about other messages, and to which: those that a schema is here for."""
    from interlock.iso20022.answers import enquiry_definition
    from interlock.iso20022.schemas import packages

    found: dict[str, list[str]] = {}
    for request in sorted(packages.offered()):
        answer = enquiry_definition(request)
        if answer is not None:
            found.setdefault(answer, []).append(request)
    return dict(sorted(found.items()))


def _enquiries() -> str:
    rows = ((f"`{name}`", ", ".join(f"`{one}`" for one in requests)) for name, requests in enquiries_made().items())
    return table(("answer", "to these messages"), rows)


def _cancellations() -> str:
    from interlock.iso20022.enquiries import CANCELLATIONS

    rows = (
        (f"`{condition}`", f"`{words.status}`", f"`{words.reason}`" if words.reason else "", words.text or "")
        for condition, words in CANCELLATIONS.items()
    )
    return table(("the original is", "status", "reason", "what the answer says"), rows)


def _not_served() -> str:
    from interlock.iso20022.answers import UNDERSTOOD

    return table(("message", "why it is not served, and what to do"), ((f"`{f}`", t) for f, t in UNDERSTOOD.items()))


def _profiles() -> str:
    """Our profiles, as their newest editions have them."""
    from interlock.iso20022.profiles import Mark, Profiles
    from interlock.iso20022.profiles.profile import mark_of
    from interlock.iso20022.profiles.telling import told

    rows = []
    for profile in Profiles.load():
        edition = profile.editions[-1]
        choice = profile.choice
        chosen = [*choice.business_service, *choice.market_practice] if choice else []
        marks = [mark_of(one.fact, profile.sources) for one in told(profile, edition)]
        sure = ", ".join(f"{marks.count(mark)} {mark}" for mark in Mark if mark in marks)
        rows.append(
            (
                f"`{profile.name}`",
                profile.title,
                ", ".join(
                    f"{one.name} ({_valid(one.valid_from, one.valid_until)})" for one in profile.editions if one.name
                ),
                ", ".join(f"`{code}`" for code in chosen) or "route",
                f"{profile.sla_fact.seconds:g} s" if profile.sla_fact else "",
                f"`{profile.timeout_reason}`" if profile.timeout_reason else "",
                ", ".join(profile.duplicate_keys or ()),
                sure,
            )
        )
    headings = ("profile", "scheme", "editions", "chosen by", "SLA", "time-out", "known by", "facts by mark")
    return table(headings, rows)


def _forms() -> str:
    from interlock.iso20022.forms import PARTS, Part

    said = described(Part)
    rows = (
        (f"`{part}`", said[part], ", ".join(family for family, parts in PARTS.items() if part in parts))
        for part in Part
    )
    return table(("part", "what is left out", "of"), rows)


def _profile_findings() -> str:
    from interlock.iso20022.profiles import RULES

    return table(("rule", "what is wrong"), ((f"`{rule}`", text) for rule, text in RULES.items()))


def _retryable() -> str:
    from interlock.iso20022.reasons import RETRYABLE

    return table(("ISO reason", "why a second attempt may succeed"), ((_reason(c), t) for c, t in RETRYABLE.items()))


# ---------------------------------------------------------------------------------------------------------------------
# The code
# ---------------------------------------------------------------------------------------------------------------------


def _modules() -> str:
    rows = []
    for path in sorted(SOURCE.rglob("*.py")):
        doc = ast.get_docstring(ast.parse(path.read_text("utf-8")))
        name = path.relative_to(SOURCE)
        if name.name == "__init__.py":
            name = name.parent
        if doc and name != Path():
            rows.append((f"[`{name}`](../src/interlock/{name})", sentence(doc)))
    return table(("module", "what it does"), rows)


PARTS: Mapping[str, Callable[[], str]] = {
    "answers": _answers,
    "calendars": _calendars,
    "cancellations": _cancellations,
    "character-sets": _character_sets,
    "cli": _cli,
    "decisions": _decisions,
    "definitions": _definitions,
    "endpoints": _endpoints,
    "enquiries": _enquiries,
    "errors": _http_errors,
    "exit-codes": _exit_codes,
    "lifecycle-states": _lifecycle_states,
    "lifecycle-table": _lifecycle_table,
    "lifecycle-today": _lifecycle_today,
    "lifecycle-whole": _lifecycle_whole,
    "metrics": _metrics,
    "modules": _modules,
    "not-served": _not_served,
    "retryable": _retryable,
    "route-settings": _route_settings,
    "peer-settings": _peer_settings,
    "client-settings": _client_settings,
    "profiles": _profiles,
    "forms": _forms,
    "profile-findings": _profile_findings,
    "profiles-settings": _profiles_settings,
    "rules-by-default": _rules_by_default,
    "rules-of-profiles": _rules_of_profiles,
    "schema-findings": _schema_findings,
    "settings": _config_settings,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
