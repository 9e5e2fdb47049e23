"""The commands of `catdog`: each parses, calls one function, prints."""
