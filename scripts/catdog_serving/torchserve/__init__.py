"""TorchServe on this machine: start and stop it, its configuration, API and logs."""
