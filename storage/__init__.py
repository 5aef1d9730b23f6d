"""The memory: every word of a run in SQL. No torch."""
