"""The HTML report of predictions."""
