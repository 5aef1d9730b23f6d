"""A run's health: figures of each step, limits on them, and the alarms these raise."""
