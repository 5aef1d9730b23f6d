"""Engines turn token prompts into sampled tokens with their log-probabilities."""
