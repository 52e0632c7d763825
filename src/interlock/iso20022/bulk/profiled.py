"""By which profile a message of many payments is judged."""

from collections.abc import Callable
from datetime import date

from lxml import etree

from interlock.iso20022.bulk.judging import Judge
from interlock.iso20022.findings import Finding
from interlock.iso20022.original import Original
from interlock.iso20022.profiles import Profiles
from interlock.iso20022.profiles.facts import Count
from interlock.iso20022.profiles.profile import Edition


def by_profile(
    profiles: Profiles, today: date, *, named: Callable[[str], str | None] | None = None, edition: int = 0
) -> Callable[[Original], Judge]:
    """Gives the judge of a message, once its header and group header are known.

    named: the profile that a route names for a definition; without its word the header chooses.
    edition: the how-manieth of the editions in force on the day, newest first. During a change-over a message is good
    if any of them finds it so: where `Judge.others` says that there are more, what was found wrong is read again with
    the next.
    """

    def judge(head: Original) -> Judge:
        profile = profiles.choose(head, named=None if named is None else named(head.definition))
        editions = profile.editions_on(today)
        chosen = editions[min(edition, len(editions) - 1)]
        return Judge(
            today=today,
            settings=chosen.rules or None,
            further=_check_of(chosen),
            profile=profile.name,
            edition=chosen.name or None,
            others=max(0, len(editions) - 1 - edition),
            bounds=_bounds_of(chosen),
        )

    return judge


def _bounds_of(edition: Edition) -> frozenset[int]:
    return frozenset(held.demand.max for held in edition.checker.held if isinstance(held.demand, Count))


def _check_of(edition: Edition) -> Callable[..., tuple[Finding, ...]]:
    def check(
        original: Original,
        *,
        today: date,  # noqa: ARG001 - the edition is the day's
        document: etree._Element | None,
        header: etree._Element | None,
    ) -> tuple[Finding, ...]:
        return tuple(edition.checker.findings(original, document, header))

    return check
