"""Whole folders of images: find them, classify them, report."""
