"""How good the answers are: `catdog evaluate`."""
