"""Weights to model directory to archive: everything behind `catdog package`."""
