"""v1 for operators (controls) and administrators (clients, keys)."""

from typing import Annotated, Any

from fastapi import APIRouter, Body
from pydantic import FailFast, Field

from interlock.api.access import Access, actor_of
from interlock.api.calls import ADMINS, OPERATORS, By, Input, Name, Note, caller, opened_by
from interlock.api.problems import NotFound
from interlock.api.views import (
    ClientsView,
    ClientView,
    ControlledView,
    ControlsView,
    NewClientView,
    RotationView,
    client_view,
    control_view,
)
from interlock.app import Interlock
from interlock.auth import NAME_MAX, NAME_PATTERN, Identity, Scope
from interlock.ports import Control, ControlScope


class Order(Input):
    """Stop or resume a route or client."""

    scope: ControlScope
    name: Annotated[Name, Field(max_length=64, description="The route's name or the client's id.")]
    stopped: Annotated[bool, Field(strict=True)]
    note: Note | None = None
    by: By | None = None


class NewClient(Input):
    """A client to be registered."""

    name: Annotated[str, Field(min_length=1, max_length=NAME_MAX, pattern=NAME_PATTERN)]
    scopes: Annotated[tuple[Scope, ...], FailFast(), Field(min_length=1, max_length=len(Scope))] = (
        Scope.READ,
        Scope.WRITE,
    )


class Rotation(Input):
    """How to rotate."""

    revoke: Annotated[
        bool,
        Field(strict=True, description="Tokens of the old keys stop working at once, for one of them has leaked."),
    ] = False


def router(interlock: Interlock, access: Access) -> APIRouter:
    """The calls."""
    routes = APIRouter(prefix="/v1")
    _controls(routes, interlock, access)
    _clients(routes, interlock, access)
    return routes


def _controls(routes: APIRouter, interlock: Interlock, access: Access) -> None:
    operator = caller(access, *OPERATORS)

    @routes.get("/controls", tags=["operations"], dependencies=[operator], openapi_extra=opened_by(*OPERATORS))
    async def list_controls() -> ControlsView:
        """The orders that stand."""
        return ControlsView(controls=tuple(control_view(order) for order in interlock.workflow.controls.orders))

    @routes.post("/controls", tags=["operations"], openapi_extra=opened_by(*OPERATORS))
    async def control(identity: Annotated[Identity, operator], order: Annotated[Order, Body()]) -> ControlledView:
        """Stop or resume a route or client; new messages are refused or held meanwhile, as the route says."""
        _refuse_unknown(interlock, order)
        given = Control(
            scope=order.scope,
            name=order.name,
            stopped=order.stopped,
            actor=actor_of(identity, order.by),
            note=order.note,
            at=interlock.clock(),
        )
        resumed = await interlock.workflow.resuming.control(given)
        return ControlledView(**control_view(given).model_dump(), resumed=resumed)


def _refuse_unknown(interlock: Interlock, order: Order) -> None:
    """An order for a name that is not there would stop nothing, and nobody would notice."""
    match order.scope:
        case ControlScope.ROUTE:
            known = interlock.config.choice_of_routes().named(order.name).name == order.name
        case ControlScope.CLIENT:
            known = interlock.authority.client(order.name) is not None
    if not known:
        raise NotFound(f"there is no such {order.scope}")


def _clients(routes: APIRouter, interlock: Interlock, access: Access) -> None:
    authority = interlock.authority
    admin: dict[str, Any] = {
        "tags": ["administration"],
        "dependencies": [caller(access, *ADMINS)],
        "openapi_extra": opened_by(*ADMINS),
    }

    @routes.get("/clients", **admin)
    async def list_clients() -> ClientsView:
        """All clients, oldest first."""
        return ClientsView(clients=tuple(client_view(client) for client in await authority.clients()))

    @routes.post("/clients", status_code=201, **admin)
    async def add_client(new: Annotated[NewClient, Body()]) -> NewClientView:
        """Register a client; its secret is told now and never again."""
        client, secret = await authority.add_client(new.name, new.scopes)
        return NewClientView(**client_view(client).model_dump(), client_secret=secret)

    @routes.delete("/clients/{client_id}", **admin)
    async def disable_client(client_id: str) -> ClientView:
        """Give it no tokens any more, and let those it has stop working; what it has sent goes its way."""
        client = await authority.disable_client(client_id)
        if client is None:
            raise NotFound("there is no such client")
        return client_view(client)

    @routes.post("/keys/rotations", status_code=201, **admin)
    async def rotate_keys(rotation: Annotated[Rotation | None, Body()] = None) -> RotationView:
        """Sign with a new key from now on; tokens of the old ones stay good until they run out."""
        key = await authority.rotate(revoke=rotation is not None and rotation.revoke)
        return RotationView(key_id=key.id, created_at=key.created_at)
