"""Reports of runs.

Comes in: a run directory, read without trust. Goes out: `report.html` and `report.md`, with tables
and pictures. The look of all of it may be changed here alone.
"""
