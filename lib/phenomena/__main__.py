"""`python -m phenomena`."""

from phenomena.runs.cli import main

main()
