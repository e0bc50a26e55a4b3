"""How is an answer drawn? One file for each file in `wdyn.analysis`, of the same name."""
