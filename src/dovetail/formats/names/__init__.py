"""The names of formats: what each is, what it takes, and how each value is spelled."""
