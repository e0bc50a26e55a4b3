"""What does a model hold at this moment? The stage where torch tensors become rows."""
