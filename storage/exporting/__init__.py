"""A run leaves its database and comes back: JSON lines, Parquet, trainer data sets, archives. No torch.

Every writer works beside its target and renames at the end, so a target is whole or absent.
"""
