"""What every run stands on: files, devices, workers, signals, locks, checkpoints.

Comes in: paths, and whatever a run wants kept. Goes out: files that are whole or absent, and errors
that say which file failed and why. Nothing here knows of networks, images or searches, so any file
may be changed without reading another room, as long as old run directories still open.
"""
