// Dots of blocks, and rounding to them. Compiled once per instruction-set level; DV_LEVEL names it
// (see CMakeLists.txt).
#include "kernels/block.h"

#include "kernels/block_dot.h"
#include "kernels/block_round.h"
#include "kernels/block_tiles.h"
#include "kernels/block_turn.h"
#include "kernels/block_values.h"

#define DV_JOIN2(a, b) a##b
#define DV_JOIN(a, b) DV_JOIN2(a, b)
#define DV_STRING2(a) #a
#define DV_STRING(a) DV_STRING2(a)

namespace {

constexpr dv::BlockForm FORMS[] = {
#if defined(__AMX_BF16__)
    TILES,
#endif
#if defined(__AVX512VNNI__)
    BYTES,
#endif
    WORDS,
    VALUES,
};

} // namespace

namespace dv {

extern const BlockKernels DV_JOIN(block_kernels_, DV_LEVEL);
const BlockKernels DV_JOIN(block_kernels_, DV_LEVEL) = {
    DV_STRING(DV_LEVEL), BLOCK_LANES, FORMS, quantise, codes, turn,
};

} // namespace dv
