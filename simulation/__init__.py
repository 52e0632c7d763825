"""Two or three regions, a witness and clients in one seeded, faulty world: the real core and rules, nothing else.

No database, no sockets, no threads, no clocks of this machine. `docs/simulation.md` says what the world has and lacks.
"""
