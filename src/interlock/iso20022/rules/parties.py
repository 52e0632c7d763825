"""Debtors, creditors and those beside them: that they are named. Pure."""

from datetime import date
from typing import Final

from lxml import etree

from interlock.iso20022.rules.rule import ElementCheck, ShapeCheck
from interlock.iso20022.rules.xml import child, has, local_name


def _empty(element: etree._Element, _today: date) -> str | None:
    return None if len(element) or _is_taxed(element) else ""


def _is_taxed(party: etree._Element) -> bool:
    """Whether it is a debtor or creditor of taxes (TaxParty), which has numbers at its tax office and no name."""
    above = party.getparent()
    return above is not None and local_name(above) in ("Tax", "TaxRmt")


def _address_without_name(names: tuple[str, ...]) -> str | None:
    return "Nm" if "PstlAdr" in names and "Nm" not in names else None


def _neither_name_nor_bic(element: etree._Element, _today: date) -> str | None:
    # In the chain of a return the party is one of two: a bank, or somebody else.
    is_chosen = len(element) > 0 and local_name(element[0]) == "Pty"
    party = element[0] if is_chosen else element
    # Schemas put the name first; banks as parties have FinInstnId there.
    if len(party) and local_name(party[0]) in ("Nm", "FinInstnId", "Agt"):
        return None
    if child(party, "Id", "OrgId", "AnyBIC") is not None or _is_taxed(party):
        return None
    return "Pty/Nm" if is_chosen else "Nm"


def _bic_and_address(element: etree._Element, _today: date) -> str | None:
    """AnyBIC (in Id/OrgId) of a debtor or creditor with both name and address."""
    organisation = element.getparent()
    identity = organisation.getparent() if organisation is not None else None
    party = identity.getparent() if identity is not None else None
    if party is None or local_name(party) not in ("Dbtr", "Cdtr"):
        return None
    return "" if has(party, "Nm") and has(party, "PstlAdr") else None


ELEMENT_CHECKS: Final[dict[str, ElementCheck]] = {
    "party.empty": _empty,
    "party.name_or_bic": _neither_name_nor_bic,
    "party.bic_alone": _bic_and_address,
}
SHAPE_CHECKS: Final[dict[str, ShapeCheck]] = {
    "party.address_without_name": _address_without_name,
}
