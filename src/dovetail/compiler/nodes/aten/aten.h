// What generated code needs of libtorch: views of memory as tensors, and errors as exceptions.
#ifndef DOVETAIL_ATEN_H
#define DOVETAIL_ATEN_H
#include <cstdint>
#include <cstring>
#include <dlfcn.h>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>

extern "C" {
struct AtenTensorOpaque;
struct StableListOpaque;
struct StringOpaque;
using AtenTensorHandle = AtenTensorOpaque*;
int32_t aoti_torch_device_type_cpu();
int32_t aoti_torch_device_type_cuda();
int32_t aoti_torch_layout_strided();
int32_t aoti_torch_dtype_float64();
int32_t aoti_torch_dtype_float32();
int32_t aoti_torch_dtype_float16();
int32_t aoti_torch_dtype_bfloat16();
int32_t aoti_torch_dtype_float8_e4m3fn();
int32_t aoti_torch_dtype_float8_e4m3fnuz();
int32_t aoti_torch_dtype_float8_e5m2();
int32_t aoti_torch_dtype_float8_e5m2fnuz();
int32_t aoti_torch_dtype_float8_e8m0fnu();
int32_t aoti_torch_dtype_int64();
int32_t aoti_torch_dtype_int32();
int32_t aoti_torch_dtype_int16();
int32_t aoti_torch_dtype_int8();
int32_t aoti_torch_dtype_uint64();
int32_t aoti_torch_dtype_uint32();
int32_t aoti_torch_dtype_uint16();
int32_t aoti_torch_dtype_uint8();
int32_t aoti_torch_dtype_bool();
int32_t aoti_torch_dtype_complex64();
int32_t aoti_torch_dtype_complex128();
int32_t aoti_torch_memory_format_contiguous_format();
int32_t aoti_torch_memory_format_channels_last();
int32_t aoti_torch_memory_format_channels_last_3d();
int32_t aoti_torch_memory_format_preserve_format();
uint64_t aoti_torch_abi_version();
int32_t aoti_torch_create_tensor_from_blob(void*, int64_t, const int64_t*, const int64_t*, int64_t,
                                           int32_t, int32_t, int32_t, AtenTensorHandle*);
int32_t aoti_torch_delete_tensor_object(AtenTensorHandle);
int32_t aoti_torch_new_tensor_handle(AtenTensorHandle from, AtenTensorHandle* made);
int32_t aoti_torch_get_data_ptr(AtenTensorHandle, void**);
int32_t aoti_torch_get_strides(AtenTensorHandle, int64_t**);
int32_t aoti_torch_copy_(AtenTensorHandle self, AtenTensorHandle src, int32_t non_blocking);
int32_t aoti_torch_cpu_mm_out(AtenTensorHandle out, AtenTensorHandle, AtenTensorHandle);
int32_t aoti_torch_cpu_bmm_out(AtenTensorHandle out, AtenTensorHandle, AtenTensorHandle);
int32_t aoti_torch_cpu__int_mm_out(AtenTensorHandle out, AtenTensorHandle, AtenTensorHandle);
int32_t aoti_torch_cpu_addmm_out(AtenTensorHandle out, AtenTensorHandle, AtenTensorHandle,
                                 AtenTensorHandle, double beta, double alpha);
int32_t aoti_torch_cpu_baddbmm_out(AtenTensorHandle out, AtenTensorHandle, AtenTensorHandle,
                                   AtenTensorHandle, double beta, double alpha);
int32_t torch_call_dispatcher(const char* name, const char* overload, uint64_t* stack,
                              uint64_t version);
int32_t aoti_torch_cpu_mkldnn__convolution_pointwise(
    AtenTensorHandle x, AtenTensorHandle weight, AtenTensorHandle* bias, const int64_t* padding,
    int64_t, const int64_t* stride, int64_t, const int64_t* dilation, int64_t, int64_t groups,
    const char* after, const double** scalars, int64_t, const char** algorithm, AtenTensorHandle*);
int32_t aoti_torch_cpu_mkldnn__convolution_pointwise_binary(
    AtenTensorHandle x, AtenTensorHandle other, AtenTensorHandle weight, AtenTensorHandle* bias,
    const int64_t* padding, int64_t, const int64_t* stride, int64_t, const int64_t* dilation,
    int64_t, int64_t groups, const char* together, double* alpha, const char** after,
    const double** scalars, int64_t, const char** algorithm, AtenTensorHandle*);
int32_t torch_new_list_reserve_size(size_t size, StableListOpaque**);
int32_t torch_list_push_back(StableListOpaque*, uint64_t);
int32_t torch_new_string_handle(const char* data, size_t length, StringOpaque**);
// Newer than the other functions: a library without it only words its errors less well.
__attribute__((weak)) const char* torch_exception_get_what_without_backtrace();
}

namespace dovetail_aten {

inline void check(int32_t failed, const char* operation) {
  if (!failed)
    return;
  std::string message = operation;
  if (torch_exception_get_what_without_backtrace)
    message += std::string(": ") + torch_exception_get_what_without_backtrace();
  throw std::runtime_error(message);
}

// Owns a handle until it is given away.
class Tensor {
public:
  explicit Tensor(AtenTensorHandle handle) : handle_(handle) {}
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;
  ~Tensor() {
    if (handle_)
      aoti_torch_delete_tensor_object(handle_);
  }
  operator AtenTensorHandle() const { return handle_; }
  uint64_t give() {
    const auto value = reinterpret_cast<uint64_t>(handle_);
    handle_ = nullptr;
    return value;
  }

private:
  AtenTensorHandle handle_;
};

#ifdef DOVETAIL_ON_DEVICE
#ifndef DOVETAIL_DEVICE_LIBRARY
#define DOVETAIL_DEVICE_LIBRARY "libtorch_cuda.so"
#define DOVETAIL_DEVICE_PREFIX "aoti_torch_cuda_"
#endif
// A function of torch's library for GPUs, which this process has loaded: it is not linked with, so
// that a program is compiled with any torch.
template <class Function> Function on_device(const char* name) {
  const std::string symbol = std::string(DOVETAIL_DEVICE_PREFIX) + name;
  void* const library = dlopen(DOVETAIL_DEVICE_LIBRARY, RTLD_NOW | RTLD_NOLOAD);
  void* const found = library ? dlsym(library, symbol.c_str()) : nullptr;
  if (!found)
    throw std::runtime_error("this torch lacks " + symbol);
  return reinterpret_cast<Function>(found);
}
#endif

inline AtenTensorHandle view(const void* data, int32_t dtype, std::initializer_list<int64_t> sizes,
                             std::initializer_list<int64_t> strides) {
  AtenTensorHandle made = nullptr;
#ifdef DOVETAIL_ON_DEVICE
  const int32_t device = aoti_torch_device_type_cuda(), number = dovetail_device;
#else
  const int32_t device = aoti_torch_device_type_cpu(), number = 0;
#endif
  check(aoti_torch_create_tensor_from_blob(const_cast<void*>(data),
                                           static_cast<int64_t>(sizes.size()), sizes.begin(),
                                           strides.begin(), 0, dtype, device, number, &made),
        "a view of an array");
  return made;
}

inline void copy(AtenTensorHandle to, AtenTensorHandle from) {
  check(aoti_torch_copy_(to, from, 0), "a copy");
}

// `to` is `from` through `function`, element by element; both are float32 without gaps, `strides`
// those of `to`, where a dimension has more than one element.
template <class Function>
void apply(float* to, std::initializer_list<int64_t> sizes, std::initializer_list<int64_t> strides,
           AtenTensorHandle from, Function function) {
  int64_t *own = nullptr, count = 1;
  void* data = nullptr;
  check(aoti_torch_get_strides(from, &own), "strides");
  check(aoti_torch_get_data_ptr(from, &data), "a pointer");
  bool same = true;
  for (size_t i = 0; i < sizes.size(); ++i) {
    same = same && (sizes.begin()[i] == 1 || own[i] == strides.begin()[i]);
    count *= sizes.begin()[i];
  }
  if (!same) {
    copy(Tensor(view(to, aoti_torch_dtype_float32(), sizes, strides)), from);
    data = to;
  }
  const float* source = static_cast<const float*>(data);
#pragma omp parallel for simd if (count > 20000)
  for (int64_t i = 0; i < count; ++i)
    to[i] = function(source[i]);
}

// Arguments of a boxed call are 64-bit words; the callee owns what they point to.
inline uint64_t word(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline uint64_t word(int64_t value) { return static_cast<uint64_t>(value); }
inline uint64_t word(AtenTensorHandle value) { return reinterpret_cast<uint64_t>(value); }
inline AtenTensorHandle result(uint64_t word) { return reinterpret_cast<AtenTensorHandle>(word); }
inline uint64_t given(uint64_t value) { return reinterpret_cast<uint64_t>(new uint64_t(value)); }

// A device: its type in the upper half, its number (-1: whichever) in the lower.
inline uint64_t cpu() {
  return uint64_t(uint32_t(aoti_torch_device_type_cpu())) << 32 | uint64_t(0xffffffffu);
}

inline uint64_t list(std::initializer_list<uint64_t> words) {
  StableListOpaque* made = nullptr;
  check(torch_new_list_reserve_size(words.size(), &made), "a list");
  for (const uint64_t w : words)
    check(torch_list_push_back(made, w), "a list");
  return reinterpret_cast<uint64_t>(made);
}

template <size_t N> uint64_t words(const int64_t (&values)[N]) {
  StableListOpaque* made = nullptr;
  check(torch_new_list_reserve_size(N, &made), "a list");
  for (const int64_t v : values)
    check(torch_list_push_back(made, word(v)), "a list");
  return reinterpret_cast<uint64_t>(made);
}

inline uint64_t text(const char* value) {
  StringOpaque* made = nullptr;
  check(torch_new_string_handle(value, std::strlen(value), &made), "a text");
  return reinterpret_cast<uint64_t>(made);
}

inline void call(const char* name, const char* overload, uint64_t* stack) {
  check(torch_call_dispatcher(name, overload, stack, aoti_torch_abi_version()), name);
}

// A second owner of a kept tensor, to be given away.
inline uint64_t shared(const std::shared_ptr<const Tensor>& kept) {
  AtenTensorHandle handle = nullptr;
  check(aoti_torch_new_tensor_handle(*kept, &handle), "a kept tensor");
  return word(handle);
}

} // namespace dovetail_aten
#endif
