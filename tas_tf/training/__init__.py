"""The loop that moves weights and logits, under any strategy.

Comes in: a network, a feed of batches, an optimizer. Goes out: trained weights or logits, metrics,
events and checkpoints. Losses, optimizers and schedules may be changed here alone.
"""
