"""Folders on Ray: one machine or a cluster, by `catdog classify --backend ray`."""
