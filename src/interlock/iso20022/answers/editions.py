"""Which message answers which, in which version, and what the versions have room for. Pure; the facts are data.

Owns: `data/answers.toml` (status reports on payments) and `data/enquiries.toml` (answers to requests about others).
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import cache, lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Final

from interlock.iso20022.answers.pieces import ID_MAX, NAMESPACE
from interlock.iso20022.forms import PARTS, Form, Forms, Part, SettledCode
from interlock.iso20022.original import Original


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What one version of an answer has room for; one table of `data/answers.toml`, which explains each word.

    A scheme's form of it has less: `has` holds the parts that are not left out as well.
    """

    definition: str
    namespace: str
    root: str
    has: frozenset[str]
    #: The only reason codes that the version has; empty where it takes the external code set.
    reasons: frozenset[str]
    requests: tuple[str, ...]
    published: date
    #: Of a camt.029: the only confirmations that the version has; empty where it takes the external code set.
    confirmations: frozenset[str] = frozenset()
    #: As in `Form`.
    settled: SettledCode = "ACSC"
    originator: bool = False
    message_id: str = ""
    timed: bool = False
    #: The scheme's, as in `Form`; `reasons` are the version's.
    scheme_reasons: frozenset[str] = frozenset()

    @property
    def is_first_edition(self) -> bool:
        """True for the versions of 2006, which have names of their own for reasons and their texts."""
        return self.root == self.definition


#: The namespaces of 2005 had no `tech`.
_NAMESPACE_2005: Final = "urn:iso:std:iso:20022:xsd:"
FIRST_CUSTOMER_REPORT: Final = "pain.002.001.01"
#: For what has no answer of its own family.
REJECTION: Final = "admi.002.001.01"


def _tables(file: str) -> dict[str, Any]:
    return tomllib.loads(resources.files("interlock.iso20022").joinpath(f"data/{file}.toml").read_text("utf-8"))


def _shapes(tables: Mapping[str, Any]) -> Mapping[str, Shape]:
    shapes = {}
    for definition, table in tables.items():
        prefix = _NAMESPACE_2005 if definition == FIRST_CUSTOMER_REPORT else NAMESPACE
        shapes[definition] = Shape(
            definition=definition,
            namespace=prefix + definition,
            root=table["root"],
            # Whether it has OrgnlTxRef the table says.
            has=frozenset(table["has"]).union(PARTS.get(definition[:8], frozenset()) - {Part.REFERENCE}),
            reasons=frozenset(table.get("reasons", ())),
            confirmations=frozenset(table.get("confirmations", ())),
            requests=tuple(table["requests"]),
            published=table["published"],
        )
    return MappingProxyType(shapes)


#: Every version of pacs.002, pain.002 and pain.014.
SHAPES: Final = _shapes(_tables("answers"))
_ENQUIRIES: Final = _tables("enquiries")
#: Every version of camt.029 and camt.111 that is written here.
RESOLUTIONS: Final = _shapes(_ENQUIRIES["answers"])
_ANSWER_OF: Final = {request: shape.definition for shape in SHAPES.values() for request in shape.requests}
_ENQUIRY_ANSWER_OF: Final[Mapping[str, str]] = {
    **{request: shape.definition for shape in RESOLUTIONS.values() for request in shape.requests},
    **_ENQUIRIES["statuses"],
}
#: What is never answered: reports, resolutions, receipts and rejections, lest two systems answer each other for ever.
_ANSWERS: Final = frozenset(_ENQUIRIES["never_answered"])
_RECEIPTS: Final = frozenset(_ENQUIRIES["receipts"])
#: Families that are understood but not served, each with why, and what to do.
UNDERSTOOD: Final[Mapping[str, str]] = MappingProxyType(_ENQUIRIES["understood"])


def formed(shape: Shape, forms: Forms) -> Shape:
    """A version as a scheme writes it."""
    form = forms.get(shape.definition[:8])
    return shape if form is None else _in_form(shape, form)


@lru_cache(maxsize=256)
def _in_form(shape: Shape, form: Form) -> Shape:
    return replace(
        shape, has=shape.has - form.without, settled=form.settled, originator=form.originator,
        message_id=form.message_id, timed=form.timed, scheme_reasons=form.reasons,
    )  # fmt: skip


def answer_definition(definition: str) -> str | None:
    """The message version that reports on payments of this one in the `generic` profile; None where none does.

    It is the version that was published together with the request.
    """
    return _ANSWER_OF.get(definition)


def enquiry_definition(definition: str) -> str | None:
    """The message version that answers a request about other messages: a status request, cancellation, investigation.

    None for all others. Such a request is answered from what the ledger knows of the originals.
    """
    return _ENQUIRY_ANSWER_OF.get(definition)


def receipt_definition(definition: str) -> str | None:
    """admi.007, for what is only acknowledged: system events and the like."""
    return "admi.007.001.01" if definition[:8] in _RECEIPTS else None


def is_answer(definition: str) -> bool:
    """True for messages that answer others and are never answered themselves."""
    return definition[:8] in _ANSWERS


def is_understood(definition: str) -> bool:
    """True for messages that are not served here in any version, and for which it is known why."""
    return definition[:8] in UNDERSTOOD


def answer_to(definition: str) -> str | None:
    """The message version that answers this one in the `generic` profile, whatever it is; None where none does."""
    if is_answer(definition) or definition.startswith("head."):
        return None
    usual = answer_definition(definition) or enquiry_definition(definition) or receipt_definition(definition)
    return usual or REJECTION


@cache
def not_served(definition: str) -> str:
    """Why a message that can be read is not served here, and what to do, for the admi.002 that answers it."""
    what = UNDERSTOOD.get(definition[:8])
    if what is None:
        return f"{definition} is understood but not served here; see the list of definitions for what is."
    return f"{definition} is understood but not served here: {what}"


def has_usable_original(original: Original) -> bool:
    """True where an answer of the request's own family can be written: it is known, and the request names itself."""
    known = original.definition in _ANSWER_OF or original.definition in _ENQUIRY_ANSWER_OF
    return known and 0 < len(original.message_id or "") <= ID_MAX
