"""The layers of a supernet and of a training network.

Comes in: maps (batch, height, width, channels) and the draw of each unit. Goes out: maps of the
same size. Each formula of docs/method.md 2 to 4 is in one file; its speed may be changed there
alone, as long as the plain formulation in `tests/support/plain.py` gives the same numbers.
"""
