"""ONNX models as torch modules.

model = load_onnx("model.onnx")
"""

from dovetail.compiler.onnx.graph import OnnxGraph
from dovetail.compiler.onnx.load import load_onnx
from dovetail.compiler.onnx.registry import operator

__all__ = ["OnnxGraph", "load_onnx", "operator"]
