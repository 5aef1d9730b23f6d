"""The learning: rollout, credit, losses, trainer, engines, and the command line that wires it all."""
