"""Explicit-state models of `interlock.regions.rules`: every interleaving, pause, crash and cut within bounds.

`python -m models --all` searches all worlds, by the right rules and with each planted mistake: see docs/model.md.
"""
