// Sums to the output, wherever they belong: y[image][channel][pixel], channel-last when linear.
#pragma once
#include "core/layout.h"

namespace dv {

struct Emitter {
  const Layout& layout;
  const dv_output& output;
  const int32_t* correction; // per channel, taken off every sum
  int64_t first_pixel;       // of this part of the batch

  // sum[channel][pixel]: channels from n on, pixels from q on
  void channel_rows(const int32_t* sum, int64_t stride, int64_t n, int64_t channels, int64_t q,
                    int64_t pixels) const;
  // sum[pixel][channel]
  void pixel_rows(const int32_t* sum, int64_t stride, int64_t q, int64_t pixels, int64_t n,
                  int64_t channels) const;
  // sum[channel][place]: channels from n on, places of the padded image from p on, of which the
  // valid pixels, `runs`, are written
  void places(const std::vector<Run>& runs, const int32_t* sum, int64_t stride, int64_t n,
              int64_t channels, int64_t p, int64_t count) const;

private:
  void one_channel(const int32_t* sum, int64_t n, int64_t q, int64_t pixels) const;
  void one_pixel(const int32_t* sum, int64_t q, int64_t n, int64_t channels) const;
};

} // namespace dv
