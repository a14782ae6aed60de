"""ONNX files of standard operators, that give the emulation's bits in any runtime."""
