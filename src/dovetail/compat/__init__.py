"""The predecessors' own entry points: change the import line, and a script of theirs runs."""
