"""What a run did, on one page.

Comes in: a run directory, read without trust. Goes out: `report.html` and `report.md`, with tables
and pictures. How anything looks may be changed here alone.
"""
