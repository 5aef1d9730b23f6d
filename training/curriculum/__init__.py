"""Curricula: what is practised next. The interface is in ``base``, what can be picked from in ``grid``."""
