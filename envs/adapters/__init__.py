"""Other people's environments: one file for each library, which is imported only when a scenario names it."""
