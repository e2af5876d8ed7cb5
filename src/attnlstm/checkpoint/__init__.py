"""Checkpoints: one file with everything a model needs."""
