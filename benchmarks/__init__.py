"""What does wdyn cost, and what do others? Each module here answers one question: ``python -m benchmarks.<name>``."""
