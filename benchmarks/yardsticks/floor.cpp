// SPDX-License-Identifier: Apache-2.0
// What memory alone costs: every input is read once, and every result is written once.
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

namespace {

using Words = uint64_t __attribute__((vector_size(64), aligned(1), may_alias));

// Σ of the words of `bytes` bytes, modulo 2^64; the last word is filled up with 0.
uint64_t sum_words(const uint8_t* data, int64_t bytes) {
  Words sum[4] = {};
  int64_t at = 0;
  for (; at + int64_t(sizeof(sum)) <= bytes; at += int64_t(sizeof(sum))) {
    for (int i = 0; i < 4; ++i) {
      sum[i] += *reinterpret_cast<const Words*>(data + at + i * int64_t(sizeof(Words)));
    }
  }
  uint64_t total = 0;
  for (int i = 0; i < 4; ++i) {
    for (int lane = 0; lane < 8; ++lane) {
      total += sum[i][lane];
    }
  }
  for (; at < bytes; at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, data + at, size_t(bytes - at < 8 ? bytes - at : 8));
    total += word;
  }
  return total;
}

// Where part `i` of `parts` begins: a whole number of words.
int64_t begin_of(int64_t bytes, int i, int parts) { return i == parts ? bytes : bytes / 8 * i / parts * 8; }

}  // namespace

// Returns the sum of the words of all inputs; each result is filled with `byte`.
extern "C" uint64_t memory_floor(int inputs, const uint8_t* const* input, const int64_t* input_bytes, int results,
                                 uint8_t* const* result, const int64_t* result_bytes, int byte, int threads) {
  std::vector<uint64_t> sums(size_t(threads), 0);
  const auto run = [&](int thread) {
    for (int i = 0; i < inputs; ++i) {
      const int64_t begin = begin_of(input_bytes[i], thread, threads);
      sums[size_t(thread)] += sum_words(input[i] + begin, begin_of(input_bytes[i], thread + 1, threads) - begin);
    }
    for (int i = 0; i < results; ++i) {
      const int64_t begin = begin_of(result_bytes[i], thread, threads);
      std::memset(result[i] + begin, byte, size_t(begin_of(result_bytes[i], thread + 1, threads) - begin));
    }
  };
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads; ++thread) {
    others.emplace_back(run, thread);
  }
  run(0);
  uint64_t total = sums[0];
  for (int thread = 1; thread < threads; ++thread) {
    others[size_t(thread - 1)].join();
    total += sums[size_t(thread)];
  }
  return total;
}
