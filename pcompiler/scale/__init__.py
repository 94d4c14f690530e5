"""Many prompts: one contract (``base.py``), and the engines that keep it."""
