"""git, the DVC graph and its objects. Knows no model, no record and no verdict."""
