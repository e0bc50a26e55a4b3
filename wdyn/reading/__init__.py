"""Runs as labelled arrays: xarray in, xarray out, no disk and no torch."""
