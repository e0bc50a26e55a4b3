"""What do the recorded weights say? One question a file; numpy, scipy and xarray only."""
