// Compiled once per instruction-set level; DV_LEVEL names it (see CMakeLists.txt).
#include "kernels/kernels.h"

#include "kernels/classes.h"
#include "kernels/direct.h"
#include "kernels/quantise.h"
#include "kernels/table.h"

#define DV_JOIN2(a, b) a##b
#define DV_JOIN(a, b) DV_JOIN2(a, b)
#define DV_STRING2(a) #a
#define DV_STRING(a) DV_STRING2(a)

namespace dv {

extern const Kernels DV_JOIN(kernels_, DV_LEVEL);
const Kernels DV_JOIN(kernels_, DV_LEVEL) = {
    DV_STRING(DV_LEVEL),
    quantise,
    recode,
    sum_codes,
    any,
    copy_rows,
    interleave,
    transpose,
    DOT_ROWS,
    DOT_LANES,
    dot_begin,
    dot_end,
    dot,
    LOOK_UP_ROWS,
    look_up,
    ADD_LANES,
    ADD_NARROW,
    add,
    DIRECT_LANES,
    direct,
    finish_channel,
    finish_rows,
    finish_channels,
};

} // namespace dv
