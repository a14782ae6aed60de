"""Encoded weights in files: what a model really takes in the formats that it computes in."""

from dovetail.storage.file import load_codes, load_encoded, save_encoded
from dovetail.storage.report import SizeReport, StoredTensor

__all__ = ["SizeReport", "StoredTensor", "load_codes", "load_encoded", "save_encoded"]
