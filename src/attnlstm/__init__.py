"""Sequence classification with a custom LSTM and hn-query attention pooling."""
