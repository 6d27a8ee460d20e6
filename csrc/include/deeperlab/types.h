// SPDX-License-Identifier: Apache-2.0
// Element types of the heads and how each becomes a float. All arithmetic of the engine is in float32.
#pragma once

#include "deeperlab/number.h"

namespace deeperlab {

struct Half {
  uint16_t bits;
};

struct BFloat16 {
  uint16_t bits;
};

// The float of 16 bits, 0 .. 65535, of a type.
template <class V>
DEEPERLAB_HD inline V to_float(const IntOf<V>& bits, BFloat16) {
  return bit_cast<V>(bits << 16);
}

template <class V>
DEEPERLAB_HD inline V to_float(const IntOf<V>& bits, Half) {
  using Int = IntOf<V>;
  const Int sign = (bits & 0x8000) << 16, rest = (bits & 0x7fff) << 13;
  const V subnormal = to_real(bits & 0x3ff) * 5.9604644775390625e-8f;  // · 2^-24, exact in float32
  Int magnitude = rest + (112 << 23);                                  // normal: the exponent's bias is 127, not 15
  magnitude = select(less(broadcast<Int>(0x0f7fffff), rest), rest | 0x7f800000, magnitude);  // Inf and NaN
  magnitude = select(less(rest, broadcast<Int>(0x00800000)), bit_cast<Int>(subnormal), magnitude);
  return bit_cast<V>(sign | magnitude);
}

DEEPERLAB_HD inline float to_float(float value) { return value; }
DEEPERLAB_HD inline float to_float(BFloat16 value) { return to_float<float>(value.bits, value); }
DEEPERLAB_HD inline float to_float(Half value) { return to_float<float>(value.bits, value); }

// An element of whichever of these types, which a view tells at run time: slower to read than one that is compiled in,
// and compiled once.
struct AnyFloat {};

enum class Type : uint8_t { float32, float16, bfloat16, uint8, int16, int32, int64 };

constexpr bool is_floating(Type type) { return type <= Type::bfloat16; }

// Calls f with a value of the element type, so that a stage is written once for all of them.
template <class F>
void with_float_type(Type type, F&& f) {
  switch (type) {
    case Type::float16:
      return f(Half{});
    case Type::bfloat16:
      return f(BFloat16{});
    default:
      return f(float{});
  }
}

template <class F>
void with_integer_type(Type type, F&& f) {
  switch (type) {
    case Type::uint8:
      return f(uint8_t{});
    case Type::int16:
      return f(int16_t{});
    case Type::int32:
      return f(int32_t{});
    default:
      return f(int64_t{});
  }
}

}  // namespace deeperlab
