"""What does wdyn show of a real training run? A small GPT, its text and its loop."""
