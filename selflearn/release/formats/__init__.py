"""Formats that a training set is exported in; each refuses, and counts, what it could not give back."""
