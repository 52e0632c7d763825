"""What libxml2's errors are called here, and what is said of them: tables and the words made of them. Pure.

Nothing of a message's values gets into a text: a limit is taken from behind the last of libxml2's own words, and where
those are not as expected no limit is told.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from interlock.iso20022.findings import short

#: How many names a text lists.
_EXPECTED_MAX: Final = 30


class Saying(NamedTuple):
    """One kind of error."""

    #: The last part of the rule's id.
    kind: str
    #: What to do, with `{}` for the limit.
    text: str
    #: libxml2's words before the limit; empty where there is none.
    before: str = ""
    #: What ends it.
    after: str = ""

    @property
    def is_facet(self) -> bool:
        """Whether it sets a limit to a value."""
        return bool(self.before) and self.kind != "attributeMissing"


#: libxml2's error -> what is said.
_SAYINGS: Final[Mapping[str, Saying]] = {
    "SCHEMAV_CVC_PATTERN_VALID": Saying("pattern", "must be {}", "by the pattern '", "'."),
    "SCHEMAV_CVC_ENUMERATION_VALID": Saying("enumeration", "must be {}.", "an element of the set {", "}."),
    "SCHEMAV_CVC_LENGTH_VALID": Saying("length", "must have a length of {}.", "the allowed length of '", "'."),
    "SCHEMAV_CVC_MINLENGTH_VALID": Saying("minLength", "{}", "minimum length of '", "'."),
    "SCHEMAV_CVC_MAXLENGTH_VALID": Saying(
        "maxLength", "must have a length of at most {}: shorten it.", "maximum length of '", "'."
    ),
    "SCHEMAV_CVC_TOTALDIGITS_VALID": Saying("totalDigits", "must have at most {} digits.", " allowed ('", "')."),
    "SCHEMAV_CVC_FRACTIONDIGITS_VALID": Saying("fractionDigits", "must have {}.", " allowed ('", "')."),
    "SCHEMAV_CVC_MININCLUSIVE_VALID": Saying("minInclusive", "must be at least {}.", " allowed ('", "')."),
    "SCHEMAV_CVC_MAXINCLUSIVE_VALID": Saying("maxInclusive", "must be at most {}.", " allowed ('", "')."),
    "SCHEMAV_CVC_MINEXCLUSIVE_VALID": Saying(
        "minExclusive", "must be greater than {}.", " must be greater than '", "'."
    ),
    "SCHEMAV_CVC_MAXEXCLUSIVE_VALID": Saying("maxExclusive", "must be less than {}.", " must be less than '", "'."),
    "SCHEMAV_CVC_COMPLEX_TYPE_4": Saying(
        "attributeMissing", "must have the attribute {}: add it.", "The attribute '", "' is required but missing."
    ),
    "SCHEMAV_CVC_ELT_5_2_2_2_1": Saying("fixed", "must be {}.", "the fixed value constraint '", "'."),
    "SCHEMAV_CVC_ELT_5_2_2_2_2": Saying("fixed", "must be {}.", "the fixed value constraint '", "'."),
    "SCHEMAV_CVC_AU": Saying("fixed", "must be {}.", "the fixed value constraint '", "'."),
    "SCHEMAV_CVC_COMPLEX_TYPE_2_1": Saying("text", "must be empty: remove its text."),
    "SCHEMAV_CVC_COMPLEX_TYPE_2_2": Saying("elements", "must hold a value, not elements: remove them."),
    "SCHEMAV_CVC_COMPLEX_TYPE_2_3": Saying("text", "must hold elements only: remove the text."),
    "SCHEMAV_CVC_COMPLEX_TYPE_3_2_1": Saying("attribute", "is not allowed: remove it."),
    "SCHEMAV_CVC_COMPLEX_TYPE_3_2_2": Saying("attribute", "is not allowed: remove it."),
    "SCHEMAV_CVC_TYPE_3_1_1": Saying("attribute", "is not allowed: remove it."),
    "SCHEMAV_CVC_TYPE_3_1_2": Saying("elements", "must hold a value, not elements: remove them."),
    "SCHEMAV_CVC_ELT_1": Saying("undeclared", "is not in the schema: mend its name or its namespace."),
    "SCHEMAV_CVC_WILDCARD": Saying("undeclared", "is not in the schema: mend its name or its namespace."),
    "SCHEMAV_CVC_ELT_3_1": Saying("nil", "must not be nil: give its content, or leave it out."),
    "SCHEMAV_CVC_ELT_3_2_1": Saying(
        "nil", "is nil, so it must be empty: remove its content, or the attribute xsi:nil."
    ),
    "SCHEMAV_CVC_ELT_3_2_2": Saying("nil", "must not be nil: give its content, or leave it out."),
    "SCHEMAV_CVC_ELT_4_1": Saying("type", "names no type of the schema: remove the attribute xsi:type."),
    "SCHEMAV_CVC_ELT_4_2": Saying("type", "names no type of the schema: remove the attribute xsi:type."),
    "SCHEMAV_CVC_ELT_4_3": Saying("type", "names a type that may not stand here: remove the attribute xsi:type."),
    "SCHEMAV_CVC_TYPE_1": Saying("type", "names no type of the schema: remove the attribute xsi:type."),
    "SCHEMAV_CVC_TYPE_2": Saying("type", "has a type that cannot be used: name one of those that the schema derives."),
    "SCHEMAV_CVC_IDC": Saying("identity", "breaks a rule of the schema on keys: make its value unique, or known."),
}
_OTHER: Final = Saying("other", "does not conform to the schema: compare it with the message definition.")

#: Every kind there is, for the docs.
KINDS: Final = frozenset({saying.kind for saying in _SAYINGS.values()}) | {
    *("datatype", "missing", "more", "other", "unexpected")
}
#: Those that set a limit to a value.
FACETS: Final = frozenset(saying.kind for saying in _SAYINGS.values() if saying.is_facet)

_DATATYPES: Final[Mapping[str, str]] = {
    "anyURI": "a URI",
    "base64Binary": "base64",
    "boolean": "true or false",
    "date": "a date, such as 2026-01-31",
    "dateTime": "a date and time, such as 2026-01-31T09:30:00+01:00",
    "decimal": "a decimal number with a point and without an exponent",
    "gMonth": "a month, such as --01",
    "gMonthDay": "a month and day, such as --01-31",
    "gYear": "a year of four digits",
    "gYearMonth": "a year and month, such as 2026-01",
    "hexBinary": "hexadecimal digits, two a byte",
    "integer": "a whole number",
    "time": "a time, such as 09:30:00+01:00",
}

_BIC: Final = "a BIC of 8 or 11 characters: bank, country, place and maybe branch, such as AAAADEFFXXX"
_IBAN: Final = "an IBAN without spaces: country, two check digits, then up to 30 letters and digits"
_PHONE: Final = "a phone number with country code and hyphen, such as +49-301234567"
#: What ISO's patterns mean. Source: the data types of the message definitions that have them.
_PATTERNS: Final[Mapping[str, str]] = {
    "[A-Z]{2,2}": "two capital letters, such as DE",
    "[A-Z]{3,3}": "a currency's code of three capital letters, such as EUR",
    "[a-z]{2,2}": "two small letters, such as de",
    "[a-zA-Z0-9]{4}": "four letters or digits",
    r"\+[0-9]{1,3}-[0-9()+\-]{1,30}": _PHONE,
    "[A-Z]{2,2}[0-9]{2,2}[a-zA-Z0-9]{1,30}": _IBAN,
    "[a-zA-Z]{2,2}[0-9]{2,2}[a-zA-Z0-9]{1,30}": _IBAN,
    "[A-Z0-9]{4,4}[A-Z]{2,2}[A-Z0-9]{2,2}([A-Z0-9]{3,3}){0,1}": _BIC,
    "[A-Z]{6,6}[A-Z2-9][A-NP-Z0-9]([A-Z0-9]{3,3}){0,1}": _BIC,
    "[A-Z0-9]{18,18}[0-9]{2,2}": "an LEI: 18 capital letters and digits, then two check digits",
    "[a-f0-9]{8}-[a-f0-9]{4}-4[a-f0-9]{3}-[89ab][a-f0-9]{3}-[a-f0-9]{12}": (
        "a UUID of version 4 in lower case, such as 0e8b2a4c-5d6f-4a1b-9c3d-7e8f9a0b1c2d"
    ),
    "[A-Z]{2,2}[A-Z0-9]{9,9}[0-9]{1,1}": "an ISIN of 12 characters: country, nine letters and digits, a check digit",
    ".*Z": "a time in UTC, ending in Z",
}
_DIGITS: Final = re.compile(r"\[0-9\](?:\{(\d+)(?:,(\d+))?\})?")

_SUBJECT: Final = re.compile(r"Element '(?:\{([^}]*)\})?([^']*)'(?:, attribute '(?:\{[^}]*\})?([^']*)')?")


def subject(message: str) -> tuple[str, str | None]:
    """Local names of the element, and of the attribute if it is one, that an error's message begins with."""
    found = _SUBJECT.match(message)
    return (short(found[2]), found[3] and short(found[3])) if found else ("The message", None)


def explained(type_name: str, message: str, base_of: Callable[[str], str | None]) -> tuple[str, str]:
    """The kind of an error, and what is expected in words.

    base_of: gives the built-in type that a type of the schema restricts.
    """
    if type_name == "SCHEMAV_ELEMENT_CONTENT":
        return _content(message)
    if type_name.startswith("SCHEMAV_CVC_DATATYPE"):
        return "datatype", _datatype(message, base_of)
    saying = _SAYINGS.get(type_name, _OTHER)
    if not saying.before:
        return saying.kind, saying.text
    # The value comes first and may hold anything, the schema's own words last: so the last marker is the true one.
    _, found, limit = message.rpartition(saying.before)
    if not found or not limit.endswith(saying.after):
        return saying.kind, f"does not keep the limit that the schema sets ({saying.kind})."
    limit = limit.removesuffix(saying.after)
    words = _LIMITS.get(saying.kind)
    return saying.kind, saying.text.format(words(limit) if words else limit)


def listed(names: Sequence[str]) -> str:
    """`A`, `one of A, B`, or the first of many."""
    if len(names) == 1:
        return names[0]
    more = f" and {len(names) - _EXPECTED_MAX} others" if len(names) > _EXPECTED_MAX else ""
    return f"one of {', '.join(names[:_EXPECTED_MAX])}{more}"


def _content(message: str) -> tuple[str, str]:
    _, found, expected = message.rpartition("Expected is ")
    tags = expected.partition("( ")[2].removesuffix(" ).").split(", ")
    due = f"next must come {listed([_expected_name(tag) for tag in tags])}" if found else "nothing more may come"
    if "Missing child element(s)." in message:
        return "missing", f"is incomplete: {due}."
    if _is_only_misplaced(message, tags):
        return "unexpected", "is expected here, but in another namespace: put it into that of its message."
    return "unexpected", f"is not expected here: {due}. Remove it, or put it where it belongs."


def _is_only_misplaced(message: str, tags: Sequence[str]) -> bool:
    """Whether the element is expected by its name, but in another namespace."""
    found = _SUBJECT.match(message)
    return found is not None and any(
        tag.rpartition("}")[2] == found[2] and tag != f"{{{found[1]}}}{found[2]}" for tag in tags
    )


def _expected_name(tag: str) -> str:
    """Local name; of a wildcard what it takes."""
    namespace, _, name = tag.rpartition("}")
    if name == "*" or tag.startswith("##"):
        return "any element" if tag.startswith("##") else f"any element of the namespace {namespace.removeprefix('{')}"
    return name


def _datatype(message: str, base_of: Callable[[str], str | None]) -> str:
    name = message.rpartition(" type '")[2].removesuffix("'.")
    base = name.removeprefix("xs:") if name.startswith("xs:") else base_of(name.rpartition("}")[2])
    return f"must be {_DATATYPES.get(base or '', 'a value of the type that the schema names')}."


def _pattern(pattern: str) -> str:
    """What a pattern asks for, with the pattern itself for who wants it exactly."""
    meaning = _PATTERNS.get(pattern) or _digits(pattern)
    return f"{meaning} (pattern {pattern})." if meaning else f"of the form that the pattern {pattern} describes."


def _digits(pattern: str) -> str | None:
    found = _DIGITS.fullmatch(pattern)
    if not found:
        return None
    least, most = found[1] or "1", found[2] or found[1] or "1"
    count = most if least == most else f"{least} to {most}"
    return "one digit" if count == "1" else f"{count} digits"


def _min_length(limit: str) -> str:
    if limit == "1":
        return "must not be empty: give a value, or leave it out."
    return f"must have a length of at least {limit}: complete it."


def _fraction_digits(limit: str) -> str:
    return "no digits after the point" if limit == "0" else f"at most {limit} digits after the point"


#: How a limit is said, where that is more than the limit itself.
_LIMITS: Final[Mapping[str, Callable[[str], str]]] = {
    "pattern": _pattern,
    "enumeration": lambda limit: listed(limit.strip("'").split("', '")),
    "minLength": _min_length,
    "fractionDigits": _fraction_digits,
}
