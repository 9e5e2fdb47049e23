"""Change a running server without a lost request; whatever fails is undone."""
