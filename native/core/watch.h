// What a cast says beside its result, taken stretch by stretch while the values lie in the cache.
#pragma once
#include "core/plane.h"

#include <math.h>

namespace dv {

// The report that a caller asked for, if any. Counts are whole numbers, so that their order among
// threads does not show.
template <typename Float> class Watch {
public:
  explicit Watch(const dv_tensor& t) : report_(t.report) {}

  explicit operator bool() const { return report_ != nullptr; }
  double low() const { return report_->low; }
  double high() const { return report_->high; }

  // Of values at..at+n before they are cast: mask(inside) writes where they do not clip.
  template <typename Mask> void note(const Float* x, int64_t at, int64_t n, Mask&& mask) const {
    const auto& k = Of<Float>::casts();
    uint8_t buffer[CHUNK];
    uint8_t* inside = report_->inside ? report_->inside + at : buffer;
    if (report_->clip) {
      mask(inside);
    } else {
      const Float low = (Float)-INFINITY, high = (Float)INFINITY;
      k.inside(x, n, n, &low, &high, inside);
    }
    if (!report_->counts)
      return;
    int64_t counts[3] = {0, 0, 0};
    k.tally(x, inside, n, counts);
    for (int i = 0; i < 3; i++)
      if (counts[i])
        __atomic_fetch_add(report_->counts + i, counts[i], __ATOMIC_RELAXED);
  }
  // The same of values that the bounds hold for as they are.
  void note(const Float* x, int64_t at, int64_t n) const {
    const Float low = (Float)report_->low, high = (Float)report_->high;
    note(x, at, n,
         [&](uint8_t* inside) { Of<Float>::casts().inside(x, n, n, &low, &high, inside); });
  }

private:
  const dv_report* report_;
};

} // namespace dv
