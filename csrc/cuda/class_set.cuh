// SPDX-License-Identifier: Apache-2.0
// Classes on their way to the device, which a launch copies: its own memory has them before the next kernel begins.
#pragma once

#include "launch.cuh"

namespace deeperlab::cuda {

__global__ static void keep_classes(ClassSet classes, ClassSet* kept) {
  for (int i = int(threadIdx.x); i < max_classes / 32; i += block) {
    kept->words[i] = classes.words[i];
  }
}

}  // namespace deeperlab::cuda
