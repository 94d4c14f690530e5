"""Artifacts: their format, their address, and the database that keeps them."""
