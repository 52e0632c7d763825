"""`interlock rules`: what is demanded of messages beyond their schemas. No server is needed."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interlock.cli.exits import Exit
from interlock.cli.options import AsJson, ConfigFile
from interlock.cli.printing import complain, emit, fields, table
from interlock.cli.service import effective

if TYPE_CHECKING:
    from interlock.iso20022.findings import Severity
    from interlock.iso20022.rules import Rule

rules = typer.Typer(help="Rules beyond the schemas: list, show.", no_args_is_help=True)

Name = Annotated[
    str | None,
    typer.Option("--profile", help="As this profile weighs them, such as cbprplus.", show_default=False),
]
Day = Annotated[
    datetime | None,
    typer.Option("--on", formats=["%Y-%m-%d"], help="As of this day, not today.", show_default=False),
]


@rules.command("list")
def list_rules(
    pattern: Annotated[str, typer.Argument(help="Only these, such as 'iban.*' or address.", show_default=False)] = "",
    *,
    profile: Name = None,
    on: Day = None,
    definition: Annotated[
        str, typer.Option("--for", help="Only what holds for this message version.", show_default=False)
    ] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """List the rules of a day with their weight: error, warning, or off unless a profile turns them on.

    Exit code 3 if none fits.
    """
    from interlock.iso20022.rules import RULES, holding

    day = _day(on)
    settings = _settings(profile, day, config)
    weights = {rule.id: rule.severity for rule in holding(definition, day, settings)}
    shown = [
        rule
        for rule in RULES.values()
        if (fnmatchcase(rule.id, pattern) or rule.id.startswith(pattern))
        and rule.is_valid_on(day)
        and (not definition or rule.id in weights)
    ]
    if as_json:
        for rule in shown:
            emit(_as_json(rule, weights.get(rule.id)))
    else:
        rows = ((rule.id, weights.get(rule.id) or "off", rule.reason, _looks_at(rule), rule.text) for rule in shown)
        table(("rule", "weight", "reason", "looks at", "what it says"), rows, empty="no such rule")
    if not shown:
        raise typer.Exit(Exit.NOT_FOUND)


@rules.command()
def show(
    rule: Annotated[str, typer.Argument(help="Id of the rule, such as iban.debtor.", show_default=False)],
    *,
    profile: Name = None,
    on: Day = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show one rule: its weight, what it looks at, who says so, and when it holds.

    Exit code 3 if there is no such rule.
    """
    from interlock.iso20022.reasons import STATUS_REASONS
    from interlock.iso20022.rules import RULES, weight

    known = RULES.get(rule)
    if known is None:
        complain(f"there is no rule {rule}; `interlock rules list` has them all")
        raise typer.Exit(Exit.NOT_FOUND)
    day = _day(on)
    weighs = weight(known, _settings(profile, day, config)) if known.is_valid_on(day) else None
    if as_json:
        emit(_as_json(known, weighs))
        return
    fields(
        (
            ("rule", known.id),
            ("says", known.text),
            ("weight", weighs or "off"),
            ("by default", known.severity if known.is_default else "off"),
            ("reason", f"{known.reason} {STATUS_REASONS[known.reason].name or ''}".strip()),
            ("looks at", known.looks_at),
            ("source", known.source),
            ("from", known.valid_from),
            ("until", known.valid_until),
            ("only for", " ".join(known.families)),
            ("not for", " ".join(known.exempt)),
            ("instead of", known.instead_of),
        )
    )


def _looks_at(rule: "Rule") -> str:
    """So short that a table can hold it."""
    return rule.looks_at if len(rule.elements) <= _ELEMENTS_MAX else f"{rule.elements[0]} and others"


_ELEMENTS_MAX = 3


def _day(on: datetime | None) -> date:
    return (on or datetime.now(UTC)).date()  # noqa: TID251 - a command reads the clock


def _settings(profile: str | None, day: date, config: Path | None) -> "Mapping[str, Severity | None] | None":
    """What a profile says of rules on a day; of editions that overlap the newest. ConfigError if there is none such."""
    if profile is None:
        return None
    from interlock.iso20022.profiles import Profiles

    known = Profiles.load(effective(config).profiles.folder)
    return known.named(profile).editions_on(day)[0].rules


def _as_json(rule: "Rule", weighs: "Severity | None") -> dict[str, object]:
    return {
        "rule": rule.id,
        "weight": weighs,
        "default": rule.severity if rule.is_default else None,
        "reason": rule.reason,
        "looks_at": rule.looks_at,
        "text": rule.text,
        "source": rule.source,
        "valid_from": rule.valid_from and rule.valid_from.isoformat(),
        "valid_until": rule.valid_until and rule.valid_until.isoformat(),
        "families": list(rule.families),
        "exempt": list(rule.exempt),
        "instead_of": rule.instead_of,
    }
