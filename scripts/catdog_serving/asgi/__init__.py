"""The same archive and HTTP API without Java: `catdog serve --server asgi`."""
