"""The folder report and the evaluation report: one file each, which opens from disk."""
