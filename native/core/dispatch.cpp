// Which levels this machine has, and which one is in use.
#include "core/dispatch.h"

#include "dovetail.h"

#include <atomic>
#include <string.h>
#include <string>
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace dv {

DV_LEVELS(Kernels, kernels);

namespace {

#if defined(__x86_64__)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi2");
}

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}

bool has_vnni() {
  return has_avx512() && __builtin_cpu_supports("avx512vbmi") &&
         __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512vnni") &&
         __builtin_cpu_supports("avx512bf16");
}

// The tiles' 8 KiB of state must be requested from the kernel once per process.
bool has_amx() {
#if defined(__linux__)
  const long request_permission = 0x1023, tile_data = 18;
  uint32_t a = 7, b, c = 0, d;
  __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  const bool tiles = (d >> 22 & 1) && (d >> 24 & 1) && (d >> 25 & 1); // bfloat16 too
  return has_vnni() && tiles && syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}

bool (*const PRESENT[])() = {[] { return true; }, has_avx2, has_avx512, has_vnni, has_amx};
#else
bool (*const PRESENT[])() = {[] { return true; }};
#endif
constexpr int64_t LEVELS = sizeof PRESENT / sizeof *PRESENT;

struct Present {
  std::string names;
  int64_t best = 0;

  Present() {
    for (int64_t i = 0; i < LEVELS; i++)
      if (PRESENT[i]()) {
        names += names.empty() ? "" : " ";
        names += kernels_levels[i]->name;
        best = i;
      }
  }
};

const Present& present() {
  static const Present found;
  return found;
}

std::atomic<int64_t> current{-1};

} // namespace

int64_t level() {
  const int64_t chosen = current.load(std::memory_order_relaxed);
  return chosen >= 0 ? chosen : present().best;
}

const Kernels& kernels() { return *kernels_levels[level()]; }

} // namespace dv

const char* dv_interface(void) { return DV_INTERFACE; }
const char* dv_levels(void) { return dv::present().names.c_str(); }

const char* dv_level(void) { return dv::kernels().name; }

int32_t dv_set_level(const char* name) {
  for (int64_t i = 0; i < dv::LEVELS; i++)
    if (name && !strcmp(dv::kernels_levels[i]->name, name) && dv::PRESENT[i]()) {
      dv::current = i;
      return DV_OK;
    }
  if (name)
    return DV_BAD_LEVEL;
  dv::current = -1;
  return DV_OK;
}
