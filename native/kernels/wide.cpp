// Products of wide operands. Compiled once per instruction-set level; DV_LEVEL names it (see
// CMakeLists.txt).
#include "kernels/wide.h"

#include "kernels/wide_laws.h"

#define DV_JOIN2(a, b) a##b
#define DV_JOIN(a, b) DV_JOIN2(a, b)
#define DV_STRING2(a) #a
#define DV_STRING(a) DV_STRING2(a)

namespace {

template <typename Law> constexpr dv::WideForm whole() { return form<Summed<Law>>(); }
template <typename Law> constexpr dv::WideForm halves() { return form<Halved<Law, true>>(); }
template <typename Law> constexpr dv::WideForm unsigned_halves() {
  return form<Halved<Law, false>>();
}

void wide_channel(const int64_t* __restrict sum, int64_t n, int64_t start, float scale,
                  const float* bias, float* __restrict out) {
  const float added = bias ? *bias : 0.0f;
  if (bias)
    for (int64_t i = 0; i < n; i++)
      out[i] = (float)(sum[i] + start) * scale + added;
  else
    for (int64_t i = 0; i < n; i++)
      out[i] = (float)(sum[i] + start) * scale;
}

void wide_channels(const int64_t* __restrict sum, int64_t n, const int64_t* __restrict start,
                   const float* __restrict scale, const float* __restrict bias,
                   float* __restrict out) {
  if (bias)
    for (int64_t i = 0; i < n; i++)
      out[i] = (float)(sum[i] + start[i]) * scale[i] + bias[i];
  else
    for (int64_t i = 0; i < n; i++)
      out[i] = (float)(sum[i] + start[i]) * scale[i];
}

#define DV_FORMS(law) {whole<law>(), halves<law>(), unsigned_halves<law>()}

} // namespace

namespace dv {

extern const WideKernels DV_JOIN(wide_kernels_, DV_LEVEL);
const WideKernels DV_JOIN(wide_kernels_, DV_LEVEL) = {
    DV_STRING(DV_LEVEL),
    WIDE_LANES,
    {{form<Factors>(), {0, nullptr}, {0, nullptr}},
     DV_FORMS(Log),
     DV_FORMS(LogOr),
     DV_FORMS(LogMean),
     DV_FORMS(ErrorTolerant)},
    wide_channel,
    wide_channels,
};

} // namespace dv
