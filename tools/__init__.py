"""Generators of documents and figures; run in a checkout, not installed."""
