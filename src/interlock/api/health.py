"""Whether this process is alive, and whether it can do its job."""

import asyncio
from collections.abc import Callable

from interlock.api.exchange import JSON, NO_STORE, Request, Response
from interlock.api.problems import refuse
from interlock.errors import InterlockError, RegionFenced, Stopped, StoreUnavailable
from interlock.journal import Journal

_ALIVE = Response(200, (JSON, NO_STORE), b'{"status":"ok"}')
_READY = Response(200, (JSON, NO_STORE), b'{"status":"ready"}')
#: A verdict this young is given again, so that probes, however many, cost one write a second.
_FRESH_SECONDS = 1.0
_PATIENCE_SECONDS = 5.0


class Health:
    """Asks the store by writing to it: a disk that is full or read-only still reads well."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[InterlockError | None] | None = None
        #: Set once the server is to stop: no new work should be sent here.
        self.is_stopping: Callable[[], bool] = lambda: False
        #: Another region has taken this one over.
        self.is_fenced: Callable[[], bool] = lambda: False

    async def fault(self) -> InterlockError | None:
        """Why the job cannot be done now, if so."""
        if self.is_stopping():
            return Stopped("the server is shutting down")
        if self.is_fenced():
            return RegionFenced("another region has taken this one over, and has not told it everything yet")
        now = asyncio.get_running_loop().time()
        if self._asking is None or (self._asking.done() and now - self._asked_at > _FRESH_SECONDS):
            self._asked_at = now
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> InterlockError | None:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._journal.renew()
        except InterlockError as exc:
            return exc
        except TimeoutError:
            return StoreUnavailable("the store does not answer")
        return None

    async def alive(self, _: Request) -> Response:
        """`GET /healthz`: the process answers."""
        return _ALIVE

    async def ready(self, request: Request) -> Response:
        """`GET /readyz`: it can store what it is given."""
        fault = await self.fault()
        return _READY if fault is None else refuse(request, fault)
