// The C interface of the native core. Plain data in, plain data out: no torch, no Python.
//
// One call computes a whole multiply-accumulate op,
//     y[b, n, o] = sum over taps t and channels c of  f(a[b, c, o * stride + t], w[n, c, t]),
// of which a linear layer is the case of no spatial extent (one pixel per image, one tap).
// Every function that can fail returns 0 or a dv_status; dv_message() names it.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DV_EXPORT __attribute__((visibility("default")))

typedef enum dv_status {
  DV_OK = 0,
  DV_BAD_SHAPE = 1, // sizes that do not fit together
  DV_NO_MEMORY = 2, // the scratch buffer could not be allocated
  DV_BAD_LEVEL = 3, // an instruction-set level this machine or build does not have
  DV_BAD_VALUE = 4, // a scale, range or table outside what the kernels prove exact
} dv_status;

// Sizes of one op. Spatial arrays hold depth, height, width; unused dimensions are 1 (padding 0).
typedef struct dv_shape {
  int64_t batch, channels, outputs, groups;
  int64_t in[3], kernel[3], stride[3], dilation[3], low[3], high[3];
  int32_t linear;  // 1: no spatial dimensions; output is [batch, outputs]
  int32_t rank;    // factors of the multiplier, 0: general table
  int32_t lookups; // of the multiplier, besides the factors
} dv_shape;

// A multiplier, indexed by the operands' bytes. `table` is what dv_prepare_table wrote; the rest,
// null where the rank is 0, is an exact form of the same products,
//     f(a, w) = constant[w] + sum over r of first[r][a] * second[r][w]
//             + sum over l of step[l] * entry[l][row][class[l][lane]].
// Of the factors ([rank, 256]) one side is unsigned and the other signed. The operands of a lookup
// are (row, lane) = (a, w) in linear layers and (w, a) in convolutions; classes are below 16.
typedef struct dv_multiplier {
  const uint8_t* first;
  const uint8_t* second;
  const int32_t* constant; // [256]
  const uint8_t* entry;    // [lookups, 256, 16]
  const uint8_t* classes;  // [lookups, 256]
  const uint8_t* step;     // [lookups], at most 127
  const void* table;
  int32_t second_unsigned;
} dv_multiplier;

// The activations, contiguous: float32 to quantise (kind 0) or ready codes, one byte each (kind 1).
// Padding cells hold `pad` (a byte); for floats it is the zero point.
typedef struct dv_input {
  const void* data;
  int32_t kind;
  float scale;
  int32_t zero_point, qmin, qmax;
  int32_t pad;
} dv_input;

// The result, contiguous: the exact int32 sums (fused 0), or (fused 1)
//   float(sum - zero_point * wsum[n]) * scale[n] + bias[n], three separately rounded steps.
typedef struct dv_output {
  void* data;
  int32_t fused;
  int32_t zero_point;
  const float* scale;
  const float* bias; // null: nothing is added
} dv_output;

typedef void (*dv_body)(int64_t begin, int64_t end, void* context);
typedef int32_t (*dv_parallel_for)(int64_t begin, int64_t end, int64_t grain, dv_body, void*);
typedef int32_t (*dv_thread_count)(uint32_t* count);

DV_EXPORT const char* dv_message(int32_t status);

// A digest of the headers that the library was built from.
DV_EXPORT const char* dv_interface(void);

// Levels, fastest last, separated by spaces; the one in use; null chooses the best again.
DV_EXPORT const char* dv_levels(void);
DV_EXPORT const char* dv_level(void);
DV_EXPORT int32_t dv_set_level(const char* name);

// Borrowed threads (libtorch's); without them, and in forked children, the core uses its own.
DV_EXPORT void dv_set_threads(dv_parallel_for parallel_for, dv_thread_count count);

// Tables: [256][256] int32 by (first byte, second byte) into the kernels' forms.
DV_EXPORT int64_t dv_table_bytes(void);
DV_EXPORT void dv_prepare_table(const int32_t* table, void* out);

// Weights: codes [outputs, channels / groups, taps], one byte each, into the kernels' order.
DV_EXPORT int64_t dv_packed_bytes(const dv_shape*);
DV_EXPORT int32_t dv_pack(const dv_shape*, const dv_multiplier*, const void* codes,
                          int32_t is_signed, void* out);

DV_EXPORT int32_t dv_run(const dv_shape*, const dv_multiplier*, const void* packed, const dv_input*,
                         const dv_output*);

// codes[i] = clamp(rint(x[i] / scale) + zero_point, qmin, qmax), ties to even, NaN -> zero_point,
// over [outer, channels, inner] with one scale and zero point per channel (channels may be 1).
// bytes: 1, 2 or 4, the width of one code.
DV_EXPORT int32_t dv_quantize(const float* x, int64_t outer, int64_t channels, int64_t inner,
                              const float* scale, const int32_t* zero_point, int32_t qmin,
                              int32_t qmax, int32_t bytes, void* out);

// A 64-bit sampled fingerprint of n floats: equal data gives equal values; a changed tensor is
// very likely noticed, cheaply.
DV_EXPORT uint64_t dv_fingerprint(const float* x, int64_t n);

#ifdef __cplusplus
}
#endif
