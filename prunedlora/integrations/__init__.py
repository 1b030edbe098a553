"""PrunedLoRA inside other people's training loops."""
