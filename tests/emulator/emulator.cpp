// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>
#include <setjmp.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

thread_local dim3 gridDim, blockDim, blockIdx, threadIdx;

namespace emulator {

thread_local bool reversed = false, captured = false;
thread_local cudaError_t last_error = cudaSuccess, launch_error = cudaSuccess;

namespace {

constexpr size_t stack_bytes = 256 << 10;
constexpr unsigned lanes_of_warp = 32;

struct Fibre {
  ucontext_t start;
  jmp_buf resume;
  std::vector<char> stack = std::vector<char>(stack_bytes);
  bool begun = false, done = true;
};

// What the lanes of a warp tell each other. A lane that has read may meet the others again only when all have.
struct Warp {
  unsigned given = 0, read = 0;
  unsigned long long values[lanes_of_warp];
};

// Fibres are kept: their stacks cost more than most kernels.
struct Block {
  std::vector<Fibre*> fibres;
  std::vector<Warp> warps;
  unsigned arrived = 0, generation = 0, current = 0;
  jmp_buf scheduler;
  const std::function<void()>* kernel = nullptr;
};

thread_local Block block;
thread_local unsigned long long results[1024][lanes_of_warp];

[[noreturn]] void begin() {
  (*block.kernel)();
  block.fibres[block.current]->done = true;
  _longjmp(block.scheduler, 1);
}

void run(unsigned i) {
  Fibre& fibre = *block.fibres[i];
  block.current = i;
  threadIdx.x = i;
  if (_setjmp(block.scheduler) != 0) {
    return;
  }
  if (fibre.begun) {
    _longjmp(fibre.resume, 1);
  }
  fibre.begun = true;
  setcontext(&fibre.start);
  abort();
}

void run_block(unsigned threads) {
  block.warps.assign((threads + lanes_of_warp - 1) / lanes_of_warp, Warp{});
  block.arrived = 0;
  for (unsigned i = 0; i < threads; ++i) {
    Fibre& fibre = *block.fibres[i];
    getcontext(&fibre.start);
    fibre.start.uc_stack.ss_sp = fibre.stack.data();
    fibre.start.uc_stack.ss_size = stack_bytes;
    fibre.start.uc_link = nullptr;
    makecontext(&fibre.start, reinterpret_cast<void (*)()>(begin), 0);
    fibre.begun = fibre.done = false;
  }
  unsigned left = threads;
  for (unsigned long long rounds = 0; left > 0; ++rounds) {
    if (rounds > 100000000ull) {
      fprintf(stderr, "emulator: the threads of a block wait for each other for ever\n");
      abort();
    }
    for (unsigned turn = 0; turn < threads; ++turn) {
      const unsigned i = reversed ? threads - 1 - turn : turn;
      if (!block.fibres[i]->done) {
        run(i);
        left -= block.fibres[i]->done;
      }
    }
  }
}

}  // namespace

void run_grid(unsigned blocks, unsigned threads, const std::function<void()>& kernel) {
  while (block.fibres.size() < threads) {
    block.fibres.push_back(new Fibre);
  }
  block.kernel = &kernel;
  gridDim.x = blocks;
  blockDim.x = threads;
  for (unsigned i = 0; i < blocks; ++i) {
    blockIdx.x = reversed ? blocks - 1 - i : i;
    run_block(threads);
  }
}

void pass() {
  if (_setjmp(block.fibres[block.current]->resume) == 0) {
    _longjmp(block.scheduler, 1);
  }
}

void block_barrier() {
  const unsigned generation = block.generation;
  if (++block.arrived == blockDim.x) {
    block.arrived = 0;
    ++block.generation;
  }
  while (block.generation == generation) {
    pass();
  }
}

const unsigned long long* exchange(unsigned lanes, unsigned long long value) {
  const unsigned thread = block.current, lane = thread % lanes_of_warp, own = 1u << lane;
  Warp& warp = block.warps[thread / lanes_of_warp];
  while (warp.given & own) {  // some have not read yet what was given last
    pass();
  }
  warp.values[lane] = value;
  warp.given |= own;
  while ((warp.given & lanes) != lanes) {
    pass();
  }
  memcpy(results[thread], warp.values, sizeof warp.values);
  warp.read |= own;
  if ((warp.read & lanes) == lanes) {
    warp.given &= ~lanes;
    warp.read &= ~lanes;
  }
  return results[thread];
}

}  // namespace emulator
