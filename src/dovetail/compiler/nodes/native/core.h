// What generated code needs of the native core, besides its structures.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <dlfcn.h>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

namespace dovetail_core {

// The core's interface; its functions are found when they are first called.
namespace interface {
const char* dv_message(int32_t status);
int32_t dv_cast_element(const dv_tensor*, const dv_element*);
int32_t dv_cast_posit(const dv_tensor*, const dv_posit*);
int32_t dv_cast_octaves(const dv_tensor*, const dv_octaves*);
int32_t dv_cast_steps(const dv_tensor*, const dv_steps*);
int32_t dv_cast_blocks(const dv_tensor*, const dv_element*, const dv_blocks*);
int32_t dv_cast_scaled(const dv_tensor*, const dv_element*, const dv_steps*, const dv_element*,
                       const dv_scaled*);
int32_t dv_largest(const dv_tensor*, int64_t block, double* out);
int32_t dv_extremes(const dv_tensor*, float* low, float* high);
int32_t dv_cast_affine(const dv_tensor*, int64_t channels, const float*, const int32_t*,
                       const dv_integers*);
int32_t dv_cast_integers(const dv_tensor*, int64_t block, const dv_integers*);
int32_t dv_quantize(const float*, int64_t outer, int64_t channels, int64_t inner, const float*,
                    const int32_t*, int32_t qmin, int32_t qmax, int32_t bytes, void* out);
int64_t dv_table_bytes();
void dv_prepare_table(const int32_t* table, void* out);
int64_t dv_packed_bytes(const dv_shape*);
int32_t dv_pack(const dv_shape*, const dv_multiplier*, const void* codes, int32_t is_signed, void*);
int32_t dv_run(const dv_shape*, const dv_multiplier*, const void* packed, const dv_input*,
               const dv_output*);
int32_t dv_block_quantize(const float* x, int64_t rows, int64_t length, const dv_block_format*,
                          float* codes, float* scales);
int64_t dv_block_packed_bytes(const dv_shape*, const dv_block_codes*);
int32_t dv_block_pack(const dv_shape*, const dv_block_codes*, const float* codes,
                      const float* scales, void* out);
int32_t dv_block_run(const dv_shape*, const dv_block_format*, const void* packed, const float* x,
                     const float* bias, float factor, float* out);
} // namespace interface

inline void* found(const char* name) {
  static void* const core = dlopen(DOVETAIL_CORE_PATH, RTLD_NOW | RTLD_LOCAL);
  void* const symbol = core ? dlsym(core, name) : nullptr;
  if (!symbol)
    throw std::runtime_error(std::string("the native core lacks ") + name);
  return symbol;
}

#define DOVETAIL_CORE_FUNCTION(name)                                                               \
  template <class... Given> auto name(Given... given) {                                            \
    static const auto function = reinterpret_cast<decltype(&interface::name)>(found(#name));       \
    return function(given...);                                                                     \
  }
DOVETAIL_CORE_FUNCTION(dv_message)
DOVETAIL_CORE_FUNCTION(dv_cast_element)
DOVETAIL_CORE_FUNCTION(dv_cast_posit)
DOVETAIL_CORE_FUNCTION(dv_cast_octaves)
DOVETAIL_CORE_FUNCTION(dv_cast_steps)
DOVETAIL_CORE_FUNCTION(dv_cast_blocks)
DOVETAIL_CORE_FUNCTION(dv_cast_scaled)
DOVETAIL_CORE_FUNCTION(dv_largest)
DOVETAIL_CORE_FUNCTION(dv_extremes)
DOVETAIL_CORE_FUNCTION(dv_cast_affine)
DOVETAIL_CORE_FUNCTION(dv_cast_integers)
DOVETAIL_CORE_FUNCTION(dv_quantize)
DOVETAIL_CORE_FUNCTION(dv_table_bytes)
DOVETAIL_CORE_FUNCTION(dv_prepare_table)
DOVETAIL_CORE_FUNCTION(dv_packed_bytes)
DOVETAIL_CORE_FUNCTION(dv_pack)
DOVETAIL_CORE_FUNCTION(dv_run)
DOVETAIL_CORE_FUNCTION(dv_block_quantize)
DOVETAIL_CORE_FUNCTION(dv_block_packed_bytes)
DOVETAIL_CORE_FUNCTION(dv_block_pack)
DOVETAIL_CORE_FUNCTION(dv_block_run)
#undef DOVETAIL_CORE_FUNCTION

inline void check(int32_t status, const char* operation) {
  if (status)
    throw std::runtime_error(std::string(operation) + ": " + dv_message(status));
}

// The tensor's own scale of NVFP4, from its largest finite magnitude.
inline float whole_scale(const dv_tensor& tensor, int64_t block) {
  double largest = 0;
  check(dv_largest(&tensor, block, &largest), "the scale of a tensor");
  return largest != 0 ? std::max(float(largest) / 2688.0f, 0x1p-120f) : 1.0f;
}

// The scale and zero point with which integer codes cover a range: the definition is
// dovetail.formats.quantization.scale_zero_point, of which this has the bits.
inline void cover(const dv_integers& codes, float low, float high, float* scale, int32_t* zero) {
  const double top = codes.affine ? double(FLT_MAX) / 2 : double(FLT_MAX);
  const float limit = float(top);
  const int span = codes.affine ? codes.qmax - codes.qmin : codes.qmax;
  low = std::max(std::min(low, 0.0f), -limit);
  high = std::min(std::max(high, 0.0f), limit);
  const float size = codes.affine ? high - low : (codes.is_signed ? std::max(-low, high) : high);
  float step = size / float(span);
  if (step == 0)
    step = 1.0f;
  const double widest = double(FLT_MAX) * (1 - 0x1p-22) / span;
  step = std::min(std::max(step, FLT_MIN), float(widest));
  if (codes.po2) {
    int exponent, most;
    if (std::frexp(step, &exponent) == 0.5f)
      --exponent;
    std::frexp(widest, &most);
    step = std::ldexp(1.0f, std::min(exponent, most - 1));
  }
  *scale = step;
  *zero = 0;
  if (!codes.affine)
    return;
  const float at = std::nearbyint(float(codes.qmin) - low / step);
  *zero = int32_t(std::min(std::max(at, float(codes.qmin)), float(codes.qmax)));
}

// Each channel's scale and zero point, from the tensor's own values.
inline void cover_all(const dv_tensor& tensor, const dv_integers& codes, std::vector<float>& scale,
                      std::vector<int32_t>& zero) {
  const size_t channels = size_t(tensor.length);
  std::vector<float> low(channels), high(channels);
  scale.resize(channels);
  zero.resize(channels);
  check(dv_extremes(&tensor, low.data(), high.data()), "the range of a tensor");
  for (size_t c = 0; c < channels; ++c)
    cover(codes, low[c], high[c], &scale[c], &zero[c]);
}

} // namespace dovetail_core
