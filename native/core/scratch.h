// Working memory that outlives a call, one per thread: fresh pages cost more than small layers.
#pragma once
#include <stdint.h>
#include <stdlib.h>

namespace dv {

class Scratch {
public:
  ~Scratch() { free(data_); }

  // At least `bytes`, aligned to 64, contents arbitrary; null when there is no memory. What an
  // earlier call returned is then no longer valid.
  uint8_t* take(int64_t bytes) {
    if (bytes > size_ || size_ > KEPT) {
      free(data_);
      size_ = (bytes + 63) / 64 * 64;
      data_ = static_cast<uint8_t*>(aligned_alloc(64, (size_t)size_));
      if (!data_)
        size_ = 0;
    }
    return data_;
  }

private:
  // Memory above this is not kept; under the sanitizers none is, so that they see every overrun.
#if defined(DOVETAIL_SANITIZE)
  static constexpr int64_t KEPT = 0;
#else
  static constexpr int64_t KEPT = int64_t(64) << 20;
#endif
  uint8_t* data_ = nullptr;
  int64_t size_ = 0;
};

} // namespace dv
