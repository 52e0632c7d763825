"""Calls of the HTTP faces, drawn: paths, headers, queries, JSON, forms with values at their extremes, and messages.

A call is kept as it would be sent, with `{token}`, `{issued}` and `{ended}` in place of what no two servers share.
"""

import re
from collections.abc import Callable
from random import Random
from typing import Final

from fuzz.canaries import canary
from fuzz.spoiling import spoil_bytes
from tests.instances import NASTY
from tests.messages import pacs008

_JSON: Final = b"\ncontent-type: application/json\n\n"
_FORM: Final = b"\ncontent-type: application/x-www-form-urlencoded\n\n"
#: Good calls to begin with; `{message}` is a spoilt message.
_CALLS: Final = (
    b"POST /v1/messages\nidempotency-key: k-1\nx-client-reference: r\nprefer: wait=1\naccept: text/xml\n\n{message}",
    b"POST /v1/messages\nx-consistency: available\n\n{message}",
    b"POST /v1/messages\n\n{message}",
    b"POST /v1/validations?schema_only=true\n\n{message}",
    b"POST /v1/validations?profile=cbprplus&lenient=true\n\n{message}",
    b"POST /inbox\nx-transaction-id: {issued}\n\n{message}",
    b"POST /outbox\nx-transaction-id: {ended}\naccept: application/json\n\n",
    b"GET /uuid\nx-message-type: pacs.008\n\n",
    b"GET /\nx-transaction-id: {ended}\nx-transaction-status: ACSC\nx-sqs-skip: true\n\n",
    b"GET /v1/transactions?status=ACSC&held=operator&flagged=true&limit=5&since=2026-01-01T00:00:00Z\n\n",
    b"GET /v1/transactions?uetr=a&message_id=b&end_to_end_id=c&transaction_reference=d&reference=e&client=f\n\n",
    b"GET /v1/transactions?cursor=AAAAAAAAAAAAAAAAAAAAAA&until=2026-01-01T00:00:00+01:00\n\n",
    b"GET /v1/transactions/{ended}?wait=0\nprefer: wait=0\n\n",
    b"GET /v1/transactions/{ended}/events\n\n",
    b"GET /v1/transactions/{ended}/messages/outbox\naccept: application/json\n\n",
    b"POST /v1/transactions/{ended}/decisions%s{%s}"
    % (_JSON, b'"decision": "reject", "reason": "AC04", "note": "n", "by": "alice"'),
    b'POST /v1/redrives%s{"transaction_ids": ["{ended}"], "dry_run": true, "by": "a"}' % _JSON,
    b'POST /v1/redrives%s{"filter": {"status": ["CANC"], "limit": 5}, "dry_run": true}' % _JSON,
    b'POST /v1/controls%s{"scope": "client", "name": "c", "stopped": true, "note": "n"}' % _JSON,
    b'POST /v1/clients%s{"name": "x", "scopes": ["read", "write"]}' % _JSON,
    b"DELETE /v1/clients/c_x\n\n",
    b'POST /v1/keys/rotations%s{"revoke": false}' % _JSON,
    b"GET /v1/definitions\n\n",
    b"GET /v1/me\n\n",
    b"GET /v1/regions\n\n",
    b"GET /problems/invalid_request\n\n",
    b"POST /oauth2/token%sgrant_type=client_credentials&client_id=a&client_secret=b&scope=read" % _FORM,
    b"GET /metrics\n\n",
    b"GET /healthz\n\n",
    b"GET /openapi.json\n\n",
)  # fmt: skip
#: Where a value stands: after = or : , in a path, in quotes, a number. Names are told again to whoever made them up.
_VALUE: Final = re.compile(rb"(?<=[=:/ ])(?:\{\w+\}|[\w.+-]+)|(?<=\")[^\"\n]*(?=\"(?!:))")
_EXTREMES: Final = (
    b"", b"0", b"-1", b"1e400", b"99999999999999999999999", b"9" * 5000, b"nan", b"null", b"true", b"[]", b"{}",
    b"[[]]", b'x", "' * 90_000,
    b"{" * 3000, b"[" * 100_000, b"%00", b"%ff%fe", b"%", b"\xff\xfe", b"\0", b"\\ud800", b"\\u0000",
    b"x" * 60_000, b"..",
    b"%2e%2e%2f", b"0001-01-01T00:00:00Z", b"9999-12-31T23:59:59-23:59", b"2026-02-30T00:00:00Z", b"a" * 22, b"_" * 22,
    b"-" * 22, "\u00e9".encode() * 22, b"00000000-0000-0000-0000-000000000000", b"ffffffffffffffffffffffffffffffff",
    b"urn:uuid:00000000-0000-0000-0000-000000000000", b"wait=99999999999999999999", b"wait=-1", b"wait=\xd9\xa3",
    b"ACSC,RJCT",
    b"\xf0\x9f\x98\x80" * 70, b"Bearer ", b"Basic Og==", b"Basic \xff", b"Bearer a.b.c",
    b"Bearer eyJhbGciOiJub25lIn0.e30.", b"gzip",
    b"chunked", b"1.5", b"0x10", b" ", b"\t", b"a&a=b", b"a=b;c", b"#", b"?", b"//", b"*", b"\xe2\x80\xae",
)  # fmt: skip
_LINES: Final = (
    b"content-encoding: gzip", b"content-length: -1", b"content-length: 99999999999", b"content-type: text/plain",
    b"content-type: multipart/form-data; boundary=x", b"content-type: application/json; charset=utf-7", b"accept: */*",
    b"authorization: Bearer x", b"x-consistency: all", b"x-consistency: KXQZVWJ", b"traceparent: 00-0-0-0",
    b"prefer: wait=0",
    b"x-forwarded-for: KXQZVWJ", b"origin: http://x", b"transfer-encoding: chunked", b"range: bytes=0-",
    b"cookie: a=KXQZVWJ",
    b"x-interlock-hop: 1", b"idempotency-key: " + b"k" * 256, b"x-client-reference: ",
)  # fmt: skip
_METHODS: Final = (b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"TRACE", b"X")


def drawn(random: Random, message: Callable[[], bytes]) -> bytes:
    """A call with something in it that is not as it was."""
    call = random.choice(_CALLS)
    head, _, body = call.partition(b"\n\n")
    for _ in range(random.choice((0, 1, 1, 2, 3))):
        match random.randrange(6):
            case 0:
                head += b"\n" + random.choice(_LINES)
            case 1 if random.random() < 0.3:
                head = random.choice(_METHODS) + b" " + head.partition(b" ")[2]
            case 2 if body and b"{message}" not in body:
                body = spoil_bytes(body, random, _CALLS)
            case 3 if body and b"{message}" not in body:
                body = _other_value(body, random)
            case _:
                head = _other_value(head, random)
    if random.random() < 0.95:
        head += b"\nauthorization: Bearer {token}"
    if b"{message}" in body:
        body = random.choice((message(), message(), pacs008(), spoil_bytes(b'{"a": ["KXQZVWJ"]}', random, _CALLS)))
    return head + b"\n\n" + body


def _other_value(part: bytes, random: Random) -> bytes:
    places = list(_VALUE.finditer(part))
    if not places:
        return part + random.choice(_EXTREMES)
    place = random.choice(places)
    form = random.random()
    if form < 0.25:
        value = canary(random).replace("\n", " ").encode()
    elif form < 0.35:
        value = random.choice(NASTY).replace("\n", " ").encode()
    else:
        value = random.choice(_EXTREMES)
    return part[: place.start()] + value + part[place.end() :]
