"""Variants: which utterances of different people mean the same goal."""
