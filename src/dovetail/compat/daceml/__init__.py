"""``daceml.torch`` and ``daceml.onnx``: PyTorch and ONNX models compiled by way of SDFGs."""
