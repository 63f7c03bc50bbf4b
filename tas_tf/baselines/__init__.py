"""Baselines: what people would pick in place of a search, each as values for the derivation.

Comes in: a space, budgets, and for most a trained unpruned network and images. Goes out: values of
all widths and depths, by which `spaces.derivation` finds the network, and the trained network with
its channels in order. How a baseline values widths and depths may be changed here alone.
"""
