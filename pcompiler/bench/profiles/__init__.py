"""Profiles: torch.profiler over the whole compiler, in named ranges, and a page that shows them."""
