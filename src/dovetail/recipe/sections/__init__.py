"""The sections of an experiment file, one module each; the experiment puts them together."""
