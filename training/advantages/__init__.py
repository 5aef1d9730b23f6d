"""Advantage estimators: rewards of groups to advantages of turns, or of tokens."""
