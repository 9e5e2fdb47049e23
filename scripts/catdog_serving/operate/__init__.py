"""TorchServe on this machine: start, stop, look, through its own APIs."""
