"""Whole networks: the supernet, and the Keras model of an architecture.

Comes in: a `SearchSpace` or an `Architecture`. Goes out: the supernet, or an ordinary Keras model;
weights can be copied between them and kept in files. How a network is built may be changed here
alone; what it must compute is in docs/method.md 4.
"""
