"""Settings files as strict, frozen, typed groups: how they are read, and what each group may hold."""
