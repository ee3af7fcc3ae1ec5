"""The commands: `main` has them all, each a few lines; one module per command beside it, and what they print with."""
