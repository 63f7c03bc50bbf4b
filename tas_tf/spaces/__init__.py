"""Search spaces: architectures, candidates, costs, and the choice within a budget.

Comes in: depth, family, candidate widths; later the logits of a search; or the calls of any
network. Goes out: `SearchSpace`, `Architecture`, `Graph`, `Budget` and exact costs. Nothing here
imports TensorFlow. Formulas of cost may be changed here alone: the loss, the derivation and the
report all call them.
"""
