"""Artifacts that machines share: an object store behind the local one."""
