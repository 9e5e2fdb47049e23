"""The page of `catdog web`: drop pictures, see what they are and where, and how the server does."""
