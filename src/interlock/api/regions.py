"""v1: the regions, and how they are seen from here."""

from collections.abc import Iterator
from typing import Literal

from fastapi import APIRouter
from pydantic import Field

from interlock.api.access import Access
from interlock.api.calls import caller, opened_by
from interlock.api.forwarding import Peers
from interlock.api.views import Instant, View
from interlock.app import Interlock
from interlock.auth import Scope


class RegionView(View):
    """One region."""

    region: str
    number: int
    endpoint: str
    own: bool = Field(description="The one that answers.")
    state: Literal["healthy", "suspect", "dead", "fenced", "rejoining"]
    why: str | None = Field(description="In words, where it is not healthy.")
    guards: bool = Field(description="It may take this region over, so every end here waits for it.")
    has_ours_until: Instant | None = Field(
        description="It has everything on its disk that was committed here before this moment."
    )


class RegionsView(View):
    """All regions that this one knows."""

    region: str
    epoch: int
    fenced: bool
    ends_waiting: int = Field(description="Ends that this process has intended and that no guard has confirmed yet.")
    healthy: tuple[str, ...] = Field(description="Endpoints of the regions that can be called, this one first.")
    regions: tuple[RegionView, ...]


_WHY = {
    "suspect": "it has missed two probes or more",
    "dead": "it has not answered for some seconds",
    "fenced": "this region has taken it over",
    "rejoining": "it is back, and takes in what was decided for it",
}


def healthy(interlock: Interlock, peers: Peers) -> Iterator[tuple[str, str]]:
    """Names of the other regions that can be called, with their host names."""
    conditions = peers.conditions(interlock.workflow.ownership.taken)
    for name, peer in interlock.config.regions.items():
        if conditions[peer.number] == "healthy":
            yield name, peer.endpoint.partition("://")[2]


def view_of(interlock: Interlock, peers: Peers, endpoint: str) -> RegionsView:
    """The regions as this process sees them."""
    config, post = interlock.config, interlock.store.post
    conditions = peers.conditions(interlock.workflow.ownership.taken)
    confirmed = interlock.acks.confirmed
    own = RegionView(
        region=config.region,
        number=config.region_number,
        endpoint=endpoint,
        own=True,
        state="rejoining" if post.fenced else "healthy",
        why="it was taken over, and takes in what was decided for it" if post.fenced else None,
        guards=False,
        has_ours_until=None,
    )
    others = [
        RegionView.model_validate(
            {
                "region": name,
                "number": peer.number,
                "endpoint": peer.endpoint,
                "own": False,
                "state": conditions[peer.number],
                "why": _WHY.get(conditions[peer.number]),
                "guards": peer.number in post.guards,
                "has_ours_until": confirmed[peer.number].until if peer.number in confirmed else None,
            }
        )
        for name, peer in config.regions.items()
    ]
    regions = (own, *others)
    return RegionsView(
        region=config.region,
        epoch=post.epoch,
        fenced=post.fenced,
        ends_waiting=interlock.acks.waiting,
        healthy=tuple(region.endpoint for region in regions if region.state == "healthy"),
        regions=regions,
    )


def router(interlock: Interlock, access: Access, peers: Peers, endpoint: str) -> APIRouter:
    """The call."""
    routes = APIRouter(prefix="/v1")
    anybody = caller(access, *Scope)

    @routes.get("/regions", tags=["regions"], dependencies=[anybody], openapi_extra=opened_by(*Scope))
    async def regions() -> RegionsView:
        """Which regions there are, which of them can be called, and how far their copies reach."""
        return view_of(interlock, peers, endpoint)

    return routes
