"""The page of `catdog web`: drop images, see what they are and where, and how the server does."""
