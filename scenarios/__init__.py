"""How a name in YAML becomes an object: schema, loader, registry, errors. Imports nothing else of ours."""
