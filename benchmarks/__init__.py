"""Measurements of accuracy, memory, speed and faults, such as `python -m benchmarks.accuracy`."""
