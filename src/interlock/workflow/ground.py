"""What every part of the workflow stands on: a record, without behaviour."""

from typing import NamedTuple

from interlock.clock import Now
from interlock.journal import Journal
from interlock.memory import Memory
from interlock.ports import Store
from interlock.routes import Routes
from interlock.workflow.traces import Traces


class Ground(NamedTuple):
    """Of one process."""

    store: Store
    journal: Journal
    #: What was committed here of late.
    memory: Memory
    routes: Routes
    traces: Traces
    now: Now
