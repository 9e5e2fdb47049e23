"""Accuracy on labelled pictures, and speed on this machine."""
