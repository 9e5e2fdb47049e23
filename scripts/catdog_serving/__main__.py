"""`python -m catdog_serving` is the command `catdog`."""

from catdog_serving.cli import main

main()
