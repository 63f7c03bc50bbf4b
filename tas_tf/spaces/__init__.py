"""What a network is, which networks are searched, what each costs, and which one a budget picks.

Comes in: depth, family, candidate widths; later the logits of a search. Goes out: `SearchSpace`,
`Architecture`, `Budget` and exact costs. Nothing here imports TensorFlow. Formulas of cost may be
changed here alone: the loss, the derivation and the report all call them.
"""
