"""A policy behind HTTP: the token wire of a vLLM server, OpenAI's chat and completion routes, recorded episodes."""
