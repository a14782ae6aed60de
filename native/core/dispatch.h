// The level in use.
#pragma once
#include "kernels/kernels.h"

namespace dv {

const Kernels& kernels();

} // namespace dv
