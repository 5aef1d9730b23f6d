"""The players: roles, prompts, rubrics and the LangGraph they meet in. No SQL, no torch."""
