"""Runs on disk: the only stage that imports zarr."""
