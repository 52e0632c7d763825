"""Header and document of an answer, in the kind of envelope in which the request came. Pure."""

from collections.abc import Container
from datetime import datetime
from functools import lru_cache
from typing import Final

from interlock.iso20022.answers.headers import app_header, service_of_answer
from interlock.iso20022.answers.pieces import ID_MAX, NOT_PROVIDED, attribute, cut, element, escape
from interlock.iso20022.forms import Part
from interlock.iso20022.original import EnvelopeKind, Header, Original, Transport
from interlock.iso20022.wrappers import Wrapper, wrappers

_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
#: Around header and document where the request's own wrapper cannot be used again.
_FALLBACK: Final = Transport(kind=EnvelopeKind.OTHER, around=(("BusinessMessage", None),))


def enveloped(
    document: str,
    definition: str,
    original: Original,
    message_id: str,
    now: datetime,
    header: Header | None = None,
    *,
    has: Container[str] = (Part.RELATED,),
) -> bytes:
    """The document as the request came: alone, or with a header, in the same kind of wrapper.

    has: the parts of the answer, of which one is in its header.
    """
    header = header or original.header
    transport = original.transport
    if transport is None and header is None:
        return (_DECLARATION + document).encode()
    head = "" if header is None else app_header(header, definition, message_id, now, related=Part.RELATED in has)
    return (_DECLARATION + _wrapped(transport or _FALLBACK, head, document, definition, original, message_id)).encode()


def _wrapped(
    transport: Transport, head: str, document: str, definition: str, original: Original, message_id: str
) -> str:
    if transport.kind is EnvelopeKind.SIBLINGS:
        return head + document
    known = wrappers().get(transport.kind)
    if known is not None and known.details:
        return _data_pdu(transport, known, head + document, definition, message_id)
    if known is not None and known.documents:
        return _renamed(known, head, document, definition)
    if known is not None and known.directions:
        return _scheme(transport, known, head + document, definition, original.definition)
    if known is not None and known.header and known.document and transport.around:
        transport = Transport(
            kind=transport.kind,
            around=transport.around[:1],
            header=((known.header, transport.around[0][1]),),
            document=((known.document, transport.around[0][1]),),
        )
    elif not transport.around:
        transport = _FALLBACK
    start, around_head, around_document, end = _frame(transport)
    if head:
        start += around_head[0] + head + around_head[1]
    return f"{start}{around_document[0]}{document}{around_document[1]}{end}"


_Levels = tuple[tuple[str, str | None], ...]
_Pair = tuple[str, str]


# The same few partners send in the same few wrappers.
@lru_cache(maxsize=256)
def _frame(transport: Transport) -> tuple[str, _Pair, _Pair, str]:
    """What comes before all, around the header, around the document, and after all."""
    inner = transport.around[-1][1]
    start, end = _tags(transport.around, None)
    return start, _tags(transport.header, inner), _tags(transport.document, inner), end


def _tags(levels: _Levels, namespace: str | None) -> _Pair:
    """Start tags and end tags of elements; each declares its namespace where it is not the one around it."""
    starts, ends = [], []
    for name, own in levels:
        declared = "" if own == namespace else f' xmlns="{attribute(own or "")}"'
        starts.append(f"<{name}{declared}>")
        ends.append(f"</{name}>")
        namespace = own
    return "".join(starts), "".join(reversed(ends))


def _scheme(transport: Transport, wrapper: Wrapper, content: str, definition: str, request: str) -> str:
    """What came in the one direction goes back in the other, in the element that the scheme has for such an answer."""
    directions = wrapper.directions
    came = next((place for place, (root, _) in enumerate(directions) if transport.around[:1] == (root,)), 0)
    (name, namespace), message = directions[1 - came]
    family = definition[:8]
    answers = wrapper.answers
    inner = answers.get(f"{family} {request[:8]}") or answers.get(family)
    levels = [(name, namespace), (message, namespace)]
    if inner is not None:
        levels.append((inner, namespace))
    start, end = _tags(tuple(levels), None)
    return f"{start}{content}{end}"


def _renamed(wrapper: Wrapper, head: str, document: str, definition: str) -> str:
    """Header and document called as in the wrapper, in its own namespace; what is in them keeps that of ISO 20022."""
    ((root, namespace),) = wrapper.roots
    name = wrapper.documents.get(definition[:8])
    if head:
        head = _called("AppHdr", "AppHdr", head)
    if name is not None:
        document = _called("Document", name, document)
    return f'<e:{root} xmlns:e="{attribute(namespace)}">{head}{document}</e:{root}>'


def _called(name: str, other: str, part: str) -> str:
    """An element that declares a default namespace, under another name in the wrapper's."""
    return f"<e:{other}{part.removeprefix(f'<{name}').removesuffix(f'</{name}>')}</e:{other}>"


#: The direction of a DataPDU's answer.
_OPPOSITE: Final = {"Input": "Output", "Output": "Input"}
_ADDRESS: Final = ("BIC12", "DN")
_FULL_NAME: Final = ("X1", "X2", "X3", "X4")


def _data_pdu(transport: Transport, wrapper: Wrapper, content: str, definition: str, message_id: str) -> str:
    """A DataPDU with a header of its own: sender and receiver, and the direction, change places."""
    details = dict(transport.details)
    message = "Header/Message"
    network = f"{message}/NetworkInfo"

    def named(name: str, path: str) -> str:
        return _saa(name, escape(details.get(path, "")))

    direction = details.get(f"{message}/SubFormat", "")
    subtype = details.get(f"{network}/SWIFTNetNetworkInfo/RequestSubtype", "")
    switched = "".join(
        (
            _saa("RequestType", definition),
            _saa("RequestSubtype", escape(service_of_answer(subtype))),
        )
    )
    service = named("Priority", f"{network}/Priority") + named("Service", f"{network}/Service")
    head = "".join(
        (
            _saa("SenderReference", message_id),
            _saa("MessageIdentifier", definition),
            _saa("Format", escape(details.get(f"{message}/Format", "MX"))),
            _saa("SubFormat", escape(_OPPOSITE.get(direction, direction))),
            _saa("Sender", _address(details, f"{message}/Receiver")),
            _saa("Receiver", _address(details, f"{message}/Sender")),
            _saa("InterfaceInfo", _saa("UserReference", message_id)),
            _saa("NetworkInfo", service + _saa("SWIFTNetNetworkInfo", switched)) if service else "",
        )
    )
    namespace = attribute(wrapper.roots[0][1])
    return (
        f'<Saa:DataPDU xmlns:Saa="{namespace}">{named("Revision", "Revision")}'
        f"{_saa('Header', _saa('Message', head))}<Saa:Body>{content}</Saa:Body></Saa:DataPDU>"
    )


def _saa(name: str, content: str) -> str:
    return element(f"Saa:{name}", content)


def _address(details: dict[str, str], party: str) -> str:
    """A party's address; a name stands for one that the request did not give."""
    address = "".join(_saa(name, escape(details.get(f"{party}/{name}", ""))) for name in _ADDRESS)
    full = "".join(_saa(name, escape(details.get(f"{party}/FullName/{name}", ""))) for name in _FULL_NAME)
    return address + _saa("FullName", full) or _saa("DN", cut(NOT_PROVIDED, ID_MAX))
