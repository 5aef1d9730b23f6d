"""Losses over packed tokens: policy gradients, supervised, preference, heads, distillation. No optimiser here."""
