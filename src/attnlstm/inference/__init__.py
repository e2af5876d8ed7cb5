"""A checkpoint back into a model, and what it says of data."""
