"""Evaluation of a checkpoint on labelled rows, and prediction of new rows."""
