"""What the calls of v1 share: who may make them, and the types of their parameters."""

import base64
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends
from fastapi.requests import Request as FastRequest
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from interlock.api.access import Access
from interlock.auth import Identity, Scope
from interlock.iso20022 import reasons

#: Scopes that open a call, any of them.
READERS = (Scope.READ, Scope.OPERATE)
DECIDERS = (Scope.WRITE, Scope.OPERATE)
OPERATORS = (Scope.OPERATE,)
ADMINS = (Scope.ADMIN,)

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def caller(access: Access, *scopes: Scope) -> Any:
    """A dependency: who calls, if they hold one of the scopes."""

    async def identify(request: FastRequest) -> Identity:
        return await access.require_of(request.headers.get("authorization"), *scopes)

    call: Callable[[FastRequest], Awaitable[Identity]] = identify
    return Depends(call)


def opened_by(*scopes: Scope) -> dict[str, Any]:
    """What the OpenAPI document says of who may call: any of the scopes will do."""
    return {"security": [{"oauth2": [scope.value]} for scope in scopes]}


def _is_rfc3339(value: object) -> object:
    if isinstance(value, datetime) or (isinstance(value, str) and _RFC_3339.fullmatch(value)):
        return value
    raise ValueError("must be a date and time as RFC 3339 has it, such as 2026-01-31T09:30:00Z")


def _is_boolean(value: object) -> object:
    if isinstance(value, bool) or value in ("true", "false"):
        return value
    raise ValueError("must be true or false")


def _is_text(value: str) -> str:
    """What every store can keep and find: neither the null character nor half of a surrogate pair is text."""
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("must be text: neither the null character nor a lone surrogate")
    return value


def _known_reason(code: str) -> str:
    if not reasons.is_status_reason(code):
        raise ValueError("must be an ISO ExternalStatusReason1Code")
    return code


def _cursor_of(value: object) -> UUID:
    try:
        if isinstance(value, str) and len(value) == 22:
            return UUID(bytes=base64.urlsafe_b64decode(value + "=="))
    except ValueError:
        pass
    raise ValueError("must be the `next` of an earlier page")


def cursor(after: UUID | None) -> str | None:
    """A position as clients hold it."""
    return None if after is None else base64.urlsafe_b64encode(after.bytes).decode().rstrip("=")


Moment = Annotated[
    AwareDatetime, BeforeValidator(_is_rfc3339), WithJsonSchema({"type": "string", "format": "date-time"})
]
Flag = Annotated[bool, BeforeValidator(_is_boolean)]
Cursor = Annotated[
    UUID, BeforeValidator(_cursor_of), WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9_-]{22}$"})
]
ReasonCode = Annotated[
    str,
    AfterValidator(_known_reason),
    Field(
        description="ISO 20022 ExternalStatusReason1Code.",
        json_schema_extra={"enum": sorted(reasons.STATUS_REASONS), "examples": ["AC04"]},
    ),
]
#: For the document's sake; what it says of text every validator of requests can check.
_TEXT = r"^[^\u0000]*$"
Note = Annotated[
    str,
    AfterValidator(_is_text),
    Field(json_schema_extra={"pattern": _TEXT}, max_length=500, description="In words; kept in the history."),
]
By = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_.@+-]{1,64}$",
        description="The person or application at the client who acts; kept in the history.",
        examples=["alice"],
    ),
]
Name = Annotated[
    str, AfterValidator(_is_text), Field(json_schema_extra={"pattern": _TEXT}, min_length=1, max_length=140)
]


class Input(BaseModel):
    """Something that a caller sends; a field that we do not know is a mistake, not to be ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Without defaults of null: what is unset was left out, which for some fields is the only way."""
        told = handler(schema)
        for field in handler.resolve_ref_schema(told).get("properties", {}).values():
            if field.get("default", field) is None:
                del field["default"]
        return told
