// SPDX-License-Identifier: Apache-2.0
// How long combinations of ids that were chosen to collide are looked for in the table of csrc/cpu/overlap.cpp: for
// each kind, and for many random numbers, the mean probes of a look-up. Prints "kind mean worst".
#include <algorithm>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "deeperlab/overlap.h"

namespace {

using namespace deeperlab;

constexpr int bits = 17, shift = 32 - bits;
constexpr int64_t slots = int64_t(1) << bits, number = slots / 2;  // as full as it gets

template <int maps, class Ids>
void look_up(const std::string& kind, const Ids& ids) {
  std::mt19937_64 random(7);
  double sum = 0, worst = 0;
  constexpr int rounds = 40;
  for (int round = 0; round < rounds; ++round) {
    Hashing hashing{random(), {}, {}};
    for (int m = 0; m < max_maps; ++m) {
      hashing.low[m] = random();
      hashing.high[m] = random();
    }
    std::vector<bool> taken(slots);
    int64_t probes = 0;
    for (int64_t i = 0; i < number; ++i) {
      int64_t key[max_maps] = {};
      ids(uint64_t(i), key);
      int64_t slot = slot_of<maps>(key, hashing, shift);
      for (++probes; taken[size_t(slot)]; ++probes) {
        slot = (slot + 1) % slots;
      }
      taken[size_t(slot)] = true;
    }
    const double mean = double(probes) / double(number);
    sum += mean;
    worst = std::max(worst, mean);
  }
  printf("%s %.3f %.3f\n", kind.c_str(), sum / rounds, worst);
}

}  // namespace

int main() {
  look_up<1>("small", [](uint64_t i, int64_t* key) { key[0] = int64_t(i); });
  std::mt19937_64 random(1);
  std::vector<int64_t> drawn(number);
  std::generate(drawn.begin(), drawn.end(), random);
  look_up<1>("random", [&](uint64_t i, int64_t* key) { key[0] = drawn[i]; });
  for (const int step : {8, 16, 24, 31, 32, 33, 40, 48}) {
    look_up<1>("step" + std::to_string(step), [&](uint64_t i, int64_t* key) { key[0] = int64_t(i << step); });
  }
  // In the highest bits alone, a sum of products modulo 2^64 has few values, whatever the factors are.
  look_up<2>("high2", [](uint64_t i, int64_t* key) {
    key[0] = int64_t(i << 56);
    key[1] = int64_t(i >> 8 << 56);
  });
  look_up<4>("high4", [](uint64_t i, int64_t* key) {
    for (int m = 0; m < 4; ++m) {
      key[m] = int64_t(i >> 4 * m << 60);
    }
  });
  // (a, 0, b) of odd factors p, p², p³: p² − 1 is a multiple of 8.
  look_up<3>("squares", [](uint64_t i, int64_t* key) {
    const uint64_t t = i % 8;
    key[0] = int64_t((i >> 3) - (t << 61));
    key[2] = int64_t(t << 61);
  });
  look_up<2>("halves", [](uint64_t i, int64_t* key) {
    key[0] = int64_t(i % 256 << 31);
    key[1] = int64_t(i / 256 << 31);
  });
  look_up<2>("opposite", [](uint64_t i, int64_t* key) {
    key[0] = int64_t(i << 32 | (0 - i) % (uint64_t(1) << 32));
    key[1] = -key[0];
  });
  look_up<4>("grid", [](uint64_t i, int64_t* key) {
    for (int m = 0; m < 4; ++m) {
      key[m] = int64_t(i >> 4 * m & 15);
    }
  });
  return 0;
}
