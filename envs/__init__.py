"""The world: environments, tasks, verifiers and the records that flow through a run. No SQL, no LangGraph, no torch."""
