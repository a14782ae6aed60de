// Half precision of CUDA, for tests on the processor.
#pragma once
typedef _Float16 __half;
