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

extern const Kernels kernels_scalar;
#if defined(__x86_64__)
extern const Kernels kernels_avx2, kernels_avx512, kernels_avx512vnni, kernels_amx;
#endif

namespace {

struct Level {
  const Kernels* kernels;
  bool (*present)();
};

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

const Level LEVELS[] = {{&kernels_scalar, [] { return true; }},
                        {&kernels_avx2, has_avx2},
                        {&kernels_avx512, has_avx512},
                        {&kernels_avx512vnni, has_vnni},
                        {&kernels_amx, has_amx}};
#else
const Level LEVELS[] = {{&kernels_scalar, [] { return true; }}};
#endif

struct Present {
  std::string names;
  const Kernels* best = &kernels_scalar;

  Present() {
    for (const Level& level : LEVELS)
      if (level.present()) {
        names += names.empty() ? "" : " ";
        names += level.kernels->name;
        best = level.kernels;
      }
  }

  const Kernels* find(const char* name) const {
    for (const Level& level : LEVELS)
      if (!strcmp(level.kernels->name, name) && level.present())
        return level.kernels;
    return nullptr;
  }
};

const Present& present() {
  static const Present found;
  return found;
}

std::atomic<const Kernels*> current{nullptr};

} // namespace

const Kernels& kernels() {
  const Kernels* chosen = current.load(std::memory_order_acquire);
  return chosen ? *chosen : *present().best;
}

} // namespace dv

const char* dv_interface(void) { return DV_INTERFACE; }
const char* dv_levels(void) { return dv::present().names.c_str(); }

const char* dv_level(void) { return dv::kernels().name; }

int32_t dv_set_level(const char* name) {
  const dv::Kernels* chosen = name ? dv::present().find(name) : dv::present().best;
  if (!chosen)
    return DV_BAD_LEVEL;
  dv::current.store(chosen, std::memory_order_release);
  return DV_OK;
}
