"""`interlock regions`: connecting regions, watching them, and what an operator does when one is lost.

Run in the region that is meant by "this one", with its configuration; every command may be given again. What follows
from a command is done by the processes that run in the region, which look at the witness every second.

The commands are listed here, in the order of the help; each group has a module of its own.
"""

import typer

from interlock.cli.regions.following import init, join, leave, reseed
from interlock.cli.regions.looking import status, verify
from interlock.cli.regions.losing import fence, rejoin, retire, takeover

regions = typer.Typer(help="Connect regions, watch them, take one over that is lost.", no_args_is_help=True)

for command in (init, join, leave, reseed, status, verify, fence, takeover, rejoin, retire):
    regions.command()(command)
