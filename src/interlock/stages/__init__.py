"""The way of a message, in its order: receive, process, release, deliver. Pure: facts in, outcomes out.

A stage never assigns a status. It says what happened, `steps.Steps` asks the lifecycle where that leads, and `way.py`
joins the stages that need not wait for one another into one change.
"""
