"""`interlock demo`: sends messages of many kinds to a server of its own, and holds what comes of them to account.

`scenario` says what is sent and what must come of it, `messages` writes it, `ways` and `desk` send it over HTTP,
`reading` reads the answers, `judging` compares, `server` runs the server, `show` prints. None of it decides anything
with interlock's own code: what is tested must not be its own witness.
"""
