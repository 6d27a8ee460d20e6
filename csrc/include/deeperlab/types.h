// SPDX-License-Identifier: Apache-2.0
// Element types of the heads and how each becomes a float. All arithmetic of the engine is in float32.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define DEEPERLAB_HD __host__ __device__
#else
#define DEEPERLAB_HD
#endif

namespace deeperlab {

struct Half {
  uint16_t bits;
};

struct BFloat16 {
  uint16_t bits;
};

DEEPERLAB_HD inline float float_from_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

DEEPERLAB_HD inline uint32_t bits_from_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

DEEPERLAB_HD inline float to_float(float value) { return value; }

DEEPERLAB_HD inline float to_float(BFloat16 value) { return float_from_bits(uint32_t(value.bits) << 16); }

DEEPERLAB_HD inline float to_float(Half value) {
  const uint32_t sign = uint32_t(value.bits & 0x8000u) << 16;
  const uint32_t rest = uint32_t(value.bits & 0x7fffu) << 13;
  if (rest >= 0x0f800000u) {  // Inf and NaN: the exponent becomes all ones
    return float_from_bits(sign | 0x7f800000u | rest);
  }
  if (rest >= 0x00800000u) {  // normal: rebias the exponent from 15 to 127
    return float_from_bits(sign | (rest + (112u << 23)));
  }
  // Subnormal: bits · 2^-24 is exact in float32.
  const float magnitude = float(value.bits & 0x3ffu) * 5.9604644775390625e-8f;
  return float_from_bits(sign | bits_from_float(magnitude));
}

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
