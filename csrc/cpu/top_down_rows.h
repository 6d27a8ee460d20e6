// SPDX-License-Identifier: Apache-2.0
// The maps of top_down, once all instances are painted. The fast form goes word by word, 64 pixels at a time: neighbors
// mostly share their value, and the few values of a word are looked at one after the other.
#pragma once

#include "top_down_fast.h"

namespace deeperlab::cpu {

// The plain form: a pixel of an instance takes its class; any other its label, where that is stuff.
struct PixelClasses {
  const ClassSet* stuff;
  int32_t classes;
  const int32_t* category;  // [M]
  int32_t* free_area;       // [C] counts the latter

  int32_t of_label(int32_t label, int32_t pixels) const {
    if (label >= classes || !stuff->has(label)) {
      return -1;
    }
    free_area[label] += pixels;
    return label;
  }

  void write(const int32_t* label, const int32_t* instance, int32_t* semantic, int begin, int end) const {
    for (int x = begin; x < end; ++x) {
      semantic[x] = instance[x] > 0 ? category[instance[x] - 1] : of_label(label[x], 1);
    }
  }
};

// Calls visit(value, bits) for the different values of a word, `key`, as `value_at` gives them lane by lane.
template <class L, class ValueAt, class Visit>
void visit_values(const typename L::Int* key, uint64_t wanted, const ValueAt& value_at, const Visit& visit) {
  while (wanted != 0) {
    const int32_t value = value_at(__builtin_ctzll(wanted));
    uint64_t same = 0;
    for (int i = 0; i < int(word) / L::count; ++i) {
      same |= uint64_t(bits_of(equal(key[i], broadcast<typename L::Int>(value)))) << (i * L::count);
    }
    visit(value, same & wanted);
    wanted &= ~same;
  }
}

template <class L>
struct RowWriter {
  using Int = typename L::Int;
  static constexpr int parts = int(word) / L::count;

  const PixelClasses& classes;

  // `semantic` may be `label` itself.
  void write(const int32_t* label, const uint16_t* number, const uint64_t* taken, int32_t* semantic, int32_t* instance,
             int width) const {
    int x = 0;
    for (; x + word <= width; x += int(word)) {
      write_word(label + x, number + x, taken[x / word], semantic + x, instance + x);
    }
    std::copy(number + x, number + width, instance + x);
    classes.write(label, instance, semantic, x, width);
  }

 private:
  // An instance stands as −1 − its number, below all labels.
  void write_word(const int32_t* label, const uint16_t* number, uint64_t taken, int32_t* semantic,
                  int32_t* instance) const {
    Int key[parts], made[parts];
    for (int i = 0; i < parts; ++i) {
      key[i] = maximum(load<Int>(label + i * L::count), broadcast<Int>(-1));
      Int here{};
      if (taken != 0) {
        here = __builtin_convertvector(load<Vector<uint16_t, L::count>>(number + i * L::count), Int);
        key[i] = select(less(Int{}, here), -1 - here, key[i]);
      }
      store(instance + i * L::count, here);
      made[i] = key[i];
    }
    const auto key_of = [&](int i) { return taken >> i & 1u ? -1 - int32_t(number[i]) : std::max(label[i], -1); };
    visit_values<L>(key, all_of_word, key_of, [&](int32_t value, uint64_t same) {
      const int32_t to =
          value < -1 ? classes.category[-value - 2] : classes.of_label(value, __builtin_popcountll(same));
      if (to != value) {
        for (int i = 0; i < parts; ++i) {
          made[i] = select(equal(key[i], broadcast<Int>(value)), broadcast<Int>(to), made[i]);
        }
      }
    });
    for (int i = 0; i < parts; ++i) {
      store(semantic + i * L::count, made[i]);
    }
  }
};

// Classes of too few pixels, whose class_area is 0, become void where no instance is.
inline void drop_small_stuff(const int32_t* class_area, const int32_t* instance, int32_t* semantic, int begin,
                             int end) {
  for (int x = begin; x < end; ++x) {
    if (instance[x] == 0 && semantic[x] >= 0 && class_area[semantic[x]] == 0) {
      semantic[x] = -1;
    }
  }
}

template <class L>
void drop_small_stuff_fast(const int32_t* class_area, const int32_t* instance, const uint64_t* taken, int32_t* semantic,
                           int width) {
  using Int = typename L::Int;
  int x = 0;
  for (; x + word <= width; x += int(word)) {
    int32_t* const at = semantic + x;
    Int key[word / L::count];
    for (int i = 0; i < word / L::count; ++i) {
      key[i] = load<Int>(at + i * L::count);
    }
    visit_values<L>(
        key, ~taken[x / word], [&](int i) { return at[i]; },
        [&](int32_t value, uint64_t same) {
          if (value >= 0 && class_area[value] == 0) {
            fill_bits(same, at, int32_t(-1));
          }
        });
  }
  drop_small_stuff(class_area, instance, semantic, x, width);
}

}  // namespace deeperlab::cpu
