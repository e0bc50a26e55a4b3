"""How do trainers that own the loop record? As one of their callbacks, each a small file over `wdyn.watch`."""
