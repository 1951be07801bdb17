"""Soak, kill and fuzz runs: `make stress`, bounded to ten minutes. See `stress/README.md`."""
