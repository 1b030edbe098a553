"""What layers of a stack of blocks have in common: their names without numbers."""


def layer_type(name: str) -> str:
    """The name with every number replaced by a star: "layers.*.mlp"."""
    return ".".join("*" if part.isdigit() else part for part in name.split("."))
