"""Whole networks: the supernet, the Keras model of an architecture, and the models of users.

Comes in: a `SearchSpace`, an `Architecture`, or any Keras model. Goes out: the supernet, or an
ordinary Keras model; weights can be copied between them and kept in files. Of a user's model its
graph goes out, and the model that keeps some of its channels. How a network is built may be changed
here alone; what it must compute is in docs/method.md 4.
"""
