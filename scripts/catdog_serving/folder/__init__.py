"""Whole folders of pictures: find them, classify them, report."""
