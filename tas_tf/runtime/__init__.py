"""Infrastructure of every run: files, devices, workers, signals, locks, checkpoints.

Comes in: paths, and the data that a run keeps. Goes out: files that are complete or absent, and
errors that say which file failed and why. Nothing here depends on networks, images or searches, so
any file may be changed without reading another package, as long as old run directories still open.
"""
