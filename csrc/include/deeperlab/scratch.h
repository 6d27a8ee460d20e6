// SPDX-License-Identifier: Apache-2.0
// One block of scratch memory per call, cut into arrays. A null block only adds up what would be needed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace deeperlab {

class Scratch {
 public:
  explicit Scratch(void* block) : block_(static_cast<char*>(block)) {}

  template <class T>
  T* take(int64_t count) {
    T* array = block_ == nullptr ? nullptr : reinterpret_cast<T*>(block_ + bytes_);
    bytes_ += (count * int64_t(sizeof(T)) + 63) / 64 * 64;
    return array;
  }

  int64_t bytes() const { return bytes_; }

 private:
  char* block_;
  int64_t bytes_ = 0;
};

}  // namespace deeperlab
