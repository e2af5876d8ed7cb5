"""Estimators on Python objects, with scikit-learn's and aeon's conventions: one for each task."""
