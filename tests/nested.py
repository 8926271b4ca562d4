"""Configurations as nested dictionaries, from the dotted names of their fields."""


def nested(fields):
    """Return {group: {field: value}} of {"group.field": value}, as deep as the names are."""
    config = {}
    for field, value in fields.items():
        *path, leaf = field.split(".")
        group = config
        for name in path:
            group = group.setdefault(name, {})
        group[leaf] = value
    return config
