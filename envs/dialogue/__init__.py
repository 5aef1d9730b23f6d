"""A conversation as a world: somebody who asks, teaches, bargains or advises, and a partner with hidden facts."""
