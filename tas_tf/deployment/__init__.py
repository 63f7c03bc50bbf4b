"""Exports for servers and devices: files, checks, times.

Comes in: a trained Keras model and its images. Goes out: SavedModel, LiteRT, int8, ONNX and
OpenVINO files, each compared with the Keras model, timed, and listed in a manifest; and tables of
the times of layers on this device. Formats, which are runtimes too, may be changed or added here
alone: `formats` declares each once.
"""
