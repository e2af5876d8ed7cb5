"""Claims about accuracy, memory and speed, measured: `python -m benchmarks.accuracy`."""
