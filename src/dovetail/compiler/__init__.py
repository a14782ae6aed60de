"""The compiler: PyTorch graphs as SDFGs, in which every level down to a scalar can be seen.

DaCe is imported by the modules that emit, not by this package: see ``dovetail.compiler.engine``.
"""
