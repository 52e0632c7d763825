"""The OpenAPI document, and the page that shows it to people; both self-contained."""

from html import escape
from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from interlock.api.messages import IDEMPOTENCY_KEY_CHARS_MAX, REFERENCE_CHARS_MAX
from interlock.api.views import ProblemView, TransactionView
from interlock.auth import Scope

_XML = {"schema": {"type": "string"}}
_SCHEMAS = "#/components/schemas/"
_METHODS = frozenset({"get", "post", "put", "patch", "delete"})


def document_of(app: FastAPI) -> dict[str, Any]:
    """The document of the whole v1 surface, made once."""
    if app.openapi_schema is None:
        document = app.openapi()
        _complete(document)
        app.openapi_schema = document
    return app.openapi_schema


def _complete(document: dict[str, Any]) -> None:
    """Add what FastAPI does not serve, and say how errors are told."""
    paths = document["paths"]
    paths["/v1/messages"] = {"post": _submit()}
    paths["/oauth2/token"] = {"post": _token()}
    paths["/.well-known/jwks.json"] = {"get": _plain("getKeys", "The keys that tokens are signed with.", "clients")}
    paths["/healthz"] = {"get": _plain("isAlive", "The process answers.", "health")}
    paths["/readyz"] = {"get": _plain("isReady", "It can store what it is given.", "health")}
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    views: list[tuple[Any, Any]] = [(ProblemView, "serialization"), (TransactionView, "serialization")]
    _, definitions = models_json_schema(views, ref_template=_SCHEMAS + "{model}")
    schemas.update({name: schema for name, schema in definitions["$defs"].items() if name not in schemas})
    document["components"]["securitySchemes"] = {"oauth2": _security()}
    for path in paths.values():
        for method, operation in path.items():
            if method in _METHODS:
                _tell_errors(operation)


def _tell_errors(operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    problem = {"application/problem+json": {"schema": {"$ref": _SCHEMAS + "ProblemView"}}}
    responses.setdefault("4XX", {"description": "The caller must act.", "content": problem})
    responses.setdefault("5XX", {"description": "The same request may do better later.", "content": problem})


def _security() -> dict[str, Any]:
    scopes = {scope.value: text for scope, text in _SCOPES.items()}
    return {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": "/oauth2/token", "scopes": scopes}}}


_SCOPES = {
    Scope.READ: "See one's own transactions.",
    Scope.WRITE: "Submit, decide and fetch answers, for oneself.",
    Scope.OPERATE: "See and decide all transactions, stop and resume.",
    Scope.ADMIN: "Clients and keys.",
}


def _plain(name: str, text: str, tag: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}}}
    return {
        "operationId": name,
        "summary": text,
        "tags": [tag],
        "responses": {"200": {"description": "Yes.", "content": content}},
    }


def _header(name: str, text: str, chars_max: int = 0) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1, "maxLength": chars_max}
    return {"name": name, "in": "header", "required": False, "description": text, "schema": schema}


def _submit() -> dict[str, Any]:
    shown = {"application/json": {"schema": {"$ref": _SCHEMAS + "TransactionView"}}}
    location = {"Location": {"description": "The transaction.", "schema": {"type": "string"}}}
    return {
        "operationId": "submitMessage",
        "summary": "Submit a message",
        "description": "Id, message and answer in one call. On return the message is durable. A message that is "
        "refused for what it holds is a transaction with status RJCT, not an error. With an idempotency key the same "
        "call again gives the same transaction.",
        "tags": ["transactions"],
        "security": [{"oauth2": [Scope.WRITE.value]}],
        "parameters": [
            _header("Idempotency-Key", "The same key and body: the same transaction.", IDEMPOTENCY_KEY_CHARS_MAX),
            _header("X-Client-Reference", "The client's own reference; finds the transaction.", REFERENCE_CHARS_MAX),
            {**_header("Prefer", "`wait=N`: wait up to N seconds for the end."), "schema": {"type": "string"}},
        ],
        "requestBody": {"required": True, "content": {"application/xml": _XML}},
        "responses": {
            "200": {
                "description": "It has ended; with `Accept: application/xml` the answer document itself.",
                "headers": location,
                "content": {**shown, "application/xml": {"schema": {"type": "string"}}},
            },
            "202": {"description": "It is on its way.", "headers": location, "content": shown},
        },
    }


def _token() -> dict[str, Any]:
    fields = {
        "grant_type": {"type": "string", "enum": ["client_credentials"]},
        "client_id": {"type": "string"},
        "client_secret": {"type": "string"},
        "scope": {"type": "string", "description": "Scopes, separated by blanks; all of the client's by default."},
    }
    given = {
        "type": "object",
        "required": ["access_token", "expires_in", "token_type"],
        "properties": {
            "access_token": {"type": "string"},
            "expires_in": {"type": "integer", "description": "Seconds."},
            "token_type": {"type": "string", "enum": ["Bearer"]},
        },
    }
    error = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
    refused = {"description": "No token.", "content": {"application/json": {"schema": error}}}
    return {
        "operationId": "getToken",
        "summary": "Get a token",
        "description": "OAuth 2.0 client credentials; id and secret by Basic header or as fields of the form.",
        "tags": ["clients"],
        "requestBody": {
            "required": True,
            "content": {
                "application/x-www-form-urlencoded": {
                    "schema": {"type": "object", "required": ["grant_type"], "properties": fields}
                }
            },
        },
        "responses": {
            "200": {"description": "A token.", "content": {"application/json": {"schema": given}}},
            "4XX": refused,
            "5XX": refused,
        },
    }


# -- for people -------------------------------------------------------------------------------------------------------

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc } h3 { font-size: 1rem; margin: 1.8rem 0 .3rem }
code, pre { font-family: ui-monospace, monospace; font-size: .9em } h3 code { background: #eef; padding: .15rem .4rem }
table { border-collapse: collapse; width: 100%; margin: .4rem 0 } td { border-top: 1px solid #ddd; padding: .2rem .5rem;
vertical-align: top } td:first-child { white-space: nowrap; width: 14rem }
"""


def page_of(document: dict[str, Any]) -> str:
    """The document as one page without scripts or anything from elsewhere."""
    info = document["info"]
    tags: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tag = operation.get("tags", ["other"])[0]
            tags.setdefault(tag, []).append(_operation(method, path, operation))
    calls = "".join(f"<h2>{escape(tag)}</h2>{''.join(listed)}" for tag, listed in tags.items())
    schemas = "".join(_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items()))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])} HTTP</title>"
        f"<style>{_STYLE}</style><h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f"<p>{escape(info.get('summary', ''))} As a document for machines: "
        f'<a href="/openapi.json">OpenAPI {escape(document["openapi"])}</a>.</p>'
        f"{calls}<h2>Records</h2>{schemas}</html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = [
        (f"{parameter['name']} ({parameter['in']})", parameter.get("description") or _kind(parameter["schema"]))
        for parameter in operation.get("parameters", ())
    ]
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        rows.append(("body", f"{media}: {_kind(content['schema'])}"))
    rows += [("scope", scope) for entry in operation.get("security", ()) for scope in entry["oauth2"]]
    for status, response in operation["responses"].items():
        kinds = ", ".join(_kind(content.get("schema", {})) for content in response.get("content", {}).values())
        rows.append((status, f"{response['description']} {kinds}"))
    text = operation.get("description") or operation.get("summary", "")
    return f"<h3><code>{method.upper()} {escape(path)}</code></h3><p>{escape(text)}</p>{_table(rows)}"


def _schema(name: str, schema: dict[str, Any]) -> str:
    rows = [
        (field, f"{_kind(kind)} {kind.get('description', '')}") for field, kind in schema.get("properties", {}).items()
    ] or [("values", _kind(schema))]
    return f"<h3 id={escape(name)}><code>{escape(name)}</code></h3>{_table(rows)}"


def _table(rows: list[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td><code>{escape(left)}</code><td>{escape(right)}" for left, right in rows)
    return f"<table>{cells}</table>"


def _kind(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(_SCHEMAS)
    if values := schema.get("enum"):
        return ", ".join(str(value) for value in values[:12]) + (", ..." if len(values) > 12 else "")
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(_kind(option) for option in schema[key])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("const") or schema.get("type", ""))
