"""The CUDA of an SDFG: what runs on the host, and the kernels with what launches them."""

from __future__ import annotations

import copy
import re
from typing import Any

from dovetail.compiler.build.source import HASH, Source, entry_of
from dovetail.compiler.engine import contained, load_dace, quiet
from dovetail.compiler.memory import plan
from dovetail.errors import DovetailError

__all__ = ["generate_gpu"]

_RUNTIME = "#include <dace/dace.h>\n"
#: DaCe's names that ``dovetail_device.h`` has.
_HERE = {"half", "int64", "cuda", "wcr_custom", "wcr_fixed", "ReductionType"}
#: What only the whole of it has.
_ELSEWHERE = re.compile(
    r"\b(cub::|(c|ftn)_mod|int_floor_ni|np_float_pow|sgn|bitwise_\w+|(left|right)_shift"
    r"|IfExpr|ROUND|AND|OR|iround|ceiling|CopyND\w*)\b"
)
_STREAM = "__state->gpu_context->streams[0]"
_DEVICE = "const int __dace_device = 0;"

_ENTRY = """
#include <cstdio>
#include <exception>
DACE_EXPORTED int __dace_gpu_last_error({name}_state_t *);
extern "C" void *dv_begin(int device) {{
  dovetail_device = device;
  return __dace_init_{name}({begin});
}}
extern "C" void dv_end(void *state) {{ __dace_exit_{name}(({name}_state_t *)state); }}
extern "C" int dv_run(void *state, void **p, char *error, size_t size) {{
  dovetail_device = (int)(intptr_t)p[{count}];
  dovetail_stream = (cudaStream_t)p[{count} + 1];
  int before = dovetail_device;
  cudaGetDevice(&before);
  if (before != dovetail_device)
    cudaSetDevice(dovetail_device);
  int failed = 0;
  try {{
    __program_{name}(({name}_state_t *)state{words});
    failed = __dace_gpu_last_error(({name}_state_t *)state);
    if (failed)
      std::snprintf(error, size, "CUDA: %s", cudaGetErrorString((cudaError_t)failed));
  }} catch (const std::exception &problem) {{
    std::snprintf(error, size, "%s", problem.what());
    failed = 1;
  }}
  if (before != dovetail_device)
    cudaSetDevice(before);
  return failed != 0;
}}
"""


def generate_gpu(sdfg: Any) -> Source:
    """The CUDA of ``sdfg``, which stays as it is.

    Every kernel and every copy is put on the stream that the caller gives; nothing waits.
    """
    from dovetail.compiler.sdfg.grid import prepare

    own = copy.deepcopy(sdfg)
    dace = load_dace()
    with (
        quiet(),
        dace.config.set_temporary("compiler", "cuda", "max_concurrent_streams", value=1),
        dace.config.set_temporary("compiler", "cuda", "backend", value="cuda"),
    ):
        prepare(own)
        arena = plan(own)
        with contained(own):
            objects = own.generate_code()
    frame = objects[0].clean_code
    kernels = "".join(o.clean_code for o in objects if o.language == "cu")
    kernels = kernels or f"{_RUNTIME}"  # calls alone
    entry, names = entry_of(own.name, frame, _ENTRY)
    return Source(_rewritten(frame) + entry, names, arena, _rewritten(kernels))


def _rewritten(code: str) -> str:
    """``code`` on our runtime, on the caller's device and stream."""
    names = set(re.findall(r"\bdace::(\w+)", code))
    known = names <= _HERE and not _ELSEWHERE.search(code)
    whole = "" if known else "#define DOVETAIL_WHOLE_RUNTIME\n"
    lines = f'{whole}#define DOVETAIL_ON_DEVICE\n#include "dovetail_device.h"\n'
    code = code.replace(HASH, "").replace(_RUNTIME, lines, 1)
    code = code.replace("#include <cuda_runtime.h>\n", "")
    code = code.replace(_STREAM, "dovetail_stream")
    code = code.replace(_DEVICE, "const int __dace_device = dovetail_device;")
    if found := re.search(r"gpu_context->(streams|events)\[[1-9]", code):
        raise DovetailError(f"generated code has a stream of its own: {found[0]}")
    return code
