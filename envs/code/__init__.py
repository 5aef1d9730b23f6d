"""The code environment: programs, answers, and the sandbox that runs what a model wrote."""
