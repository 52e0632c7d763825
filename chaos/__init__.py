"""Regions on one machine, and what can happen to them: the demonstration, the tests with real faults, and the grid.

`links` are networks that can be cut, `processes` are servers that can be killed and stopped, `world` joins them with a
PostgreSQL a region and a witness, and `consumers` call them. `python -m chaos.demo` shows it.
"""
