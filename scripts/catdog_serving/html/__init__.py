"""Pages that are one file, open from disk and load nothing: see page.py."""
