// One parallel loop for the whole core.
#pragma once
#include <stdint.h>
#include <utility>

namespace dv {

int64_t thread_count();
void parallel(int64_t tasks, void (*body)(int64_t, int64_t, void*), void* context);

// Calls body(begin, end) over [0, tasks), split among the threads.
template <typename Body> void parallel(int64_t tasks, Body&& body) {
  parallel(
      tasks, [](int64_t begin, int64_t end, void* f) { (*static_cast<Body*>(f))(begin, end); },
      &body);
}

} // namespace dv
