// Floating-point multipliers. Compiled once per instruction-set level; DV_LEVEL names it (see
// CMakeLists.txt).
#include "kernels/float_mul.h"

#include "kernels/float_encode.h"
#include "kernels/float_far.h"
#include "kernels/float_tile.h"

#define DV_JOIN2(a, b) a##b
#define DV_JOIN(a, b) DV_JOIN2(a, b)
#define DV_STRING2(a) #a
#define DV_STRING(a) DV_STRING2(a)

namespace dv {

extern const FloatKernels DV_JOIN(float_kernels_, DV_LEVEL);
const FloatKernels DV_JOIN(float_kernels_, DV_LEVEL) = {
    DV_STRING(DV_LEVEL),
    FLOAT_LANES,
    SMALL_MANTISSA,
    {{FLOAT_ROWS, float_tile<Values>},
     {FLOAT_ROWS, float_tile<Logarithms>},
     {TABLE_ROWS, float_tile<Table>},
     {TABLE_ROWS, float_tile<SmallTable>}},
    far,
    encode,
};

} // namespace dv
