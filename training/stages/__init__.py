"""Group stages: group to group, between play and advantages."""
