"""Studies that go beyond ``pcompiler bench``: run as ``python -m benches.NAME``; not installed."""
