"""Accuracy on labelled pictures."""
