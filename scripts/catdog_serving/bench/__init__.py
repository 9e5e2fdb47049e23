"""Speed on this machine: against the reference loop, and with other settings."""
