// SPDX-License-Identifier: Apache-2.0
// The maps of top_down, once all instances are painted. The fast form goes word by word, 64 pixels at a time: neighbors
// mostly share their value, and the few values of a word are looked at one after the other.
#pragma once

#include "simd/stream.h"
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

// A row of both maps. Its whole words are written as whole lines of the cache; pixels before the first and after the
// last are visited one by one.
struct MapRow {
  const uint64_t* taken;  // [words of PaintLayout], as the next three
  const int32_t* owner;
  const uint16_t* number;  // of each pixel
  int32_t* free_class;     // of each word's pixels of no instance, or one of the two below
  int32_t *semantic, *instance;
  int width;
  int before = bits_before(semantic);

  static constexpr int32_t none = -1, several = -2;  // none: nor is one void, of which there is nothing to drop

  int begin() const { return std::min(int(elements_to_line(semantic)), width); }
  int end() const { return begin() + (width - begin()) / int(word) * int(word); }
  int64_t word_of(int x) const { return (before + x) / word; }
  // The instance at a pixel, 0: none.
  int32_t instance_of(int x) const {
    const int64_t at = word_of(x);
    if ((taken[at] >> ((before + x) % word) & 1u) == 0) {
      return 0;
    }
    return owner[at] != PaintLayout::several ? owner[at] : number[before + x];
  }
  // Of pixels x … x + 63, a whole word.
  uint64_t taken_from(int x) const { return taken[word_of(x)]; }
  int32_t& free_class_from(int x) const { return free_class[word_of(x)]; }
};

template <class L, bool streams>
struct RowWriter {
  using Int = typename L::Int;
  static constexpr int parts = int(word) / L::count;

  const PixelClasses& classes;

  // `row.semantic` may be `label` itself.
  void write(const int32_t* label, const MapRow& row) const {
    write_pixels(label, row, 0, row.begin());
    for (int x = row.begin(); x < row.end(); x += int(word)) {
      const int32_t owner = row.owner[row.word_of(x)];
      const uint64_t taken = row.taken_from(x);
      row.free_class_from(x) =
          taken == all_of_word && owner != PaintLayout::several
              ? write_owned(owner, row.semantic + x, row.instance + x)
              : write_word(label + x, row.number + row.before + x, taken, owner, row.semantic + x, row.instance + x);
    }
    write_pixels(label, row, row.end(), row.width);
  }

 private:
  void write_pixels(const int32_t* label, const MapRow& row, int begin, int end) const {
    for (int x = begin; x < end; ++x) {
      row.instance[x] = row.instance_of(x);
    }
    classes.write(label, row.instance, row.semantic, begin, end);
  }

  static void put(int32_t* to, const Int& value) {
    if constexpr (streams) {
      stream(to, value);
    } else {
      store(to, value);
    }
  }

  // A word of one instance alone, as most are that have any.
  int32_t write_owned(int32_t owner, int32_t* semantic, int32_t* instance) const {
    for (int i = 0; i < int(word); i += L::count) {
      put(instance + i, broadcast<Int>(owner));
      put(semantic + i, broadcast<Int>(classes.category[owner - 1]));
    }
    return MapRow::none;
  }

  // An instance stands as −1 − its number, below all labels. Where all pixels are taken no label is read. Returns the
  // class of the free pixels.
  int32_t write_word(const int32_t* label, const uint16_t* number, uint64_t taken, int32_t owner, int32_t* semantic,
                     int32_t* instance) const {
    const bool is_shared = owner == PaintLayout::several;
    Int key[parts]{}, made[parts];
    for (int i = 0; i < parts; ++i) {
      Int here{};
      if (taken != all_of_word) {
        key[i] = maximum(load<Int>(label + i * L::count), broadcast<Int>(-1));
      }
      if (taken != 0) {
        const auto mine = lanes_of_bits<Int>(uint32_t(taken >> (i * L::count)));
        here = is_shared ? __builtin_convertvector(load<Vector<uint16_t, L::count>>(number + i * L::count), Int)
                         : broadcast<Int>(owner);
        key[i] = select(mine, -1 - here, key[i]);
        here = select(mine, here, Int{});
      }
      put(instance + i * L::count, here);
    }
    std::copy_n(key, parts, made);
    const auto key_of = [&](int i) {
      return taken >> i & 1u ? -1 - (is_shared ? int32_t(number[i]) : owner) : std::max(label[i], -1);
    };
    int32_t free_class = MapRow::none;
    visit_values<L>(key, all_of_word, key_of, [&](int32_t value, uint64_t same) {
      int32_t to = 0;
      if (value < -1) {
        to = classes.category[-value - 2];
      } else {
        to = classes.of_label(value, __builtin_popcountll(same));
        free_class = to < 0 ? free_class : free_class == MapRow::none ? to : MapRow::several;
      }
      if (to != value) {
        for (int i = 0; i < parts; ++i) {
          made[i] = select(equal(key[i], broadcast<Int>(value)), broadcast<Int>(to), made[i]);
        }
      }
    });
    for (int i = 0; i < parts; ++i) {
      put(semantic + i * L::count, made[i]);
    }
    return free_class;
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

// The fast form reads no word whose free pixels are all of one class.
template <class L>
void drop_small_stuff_fast(const int32_t* class_area, const MapRow& row) {
  using Int = typename L::Int;
  drop_small_stuff(class_area, row.instance, row.semantic, 0, row.begin());
  for (int x = row.begin(); x < row.end(); x += int(word)) {
    const int32_t free_class = row.free_class_from(x);
    int32_t* const at = row.semantic + x;
    if (free_class == MapRow::several) {
      Int key[word / L::count];
      for (int i = 0; i < word / L::count; ++i) {
        key[i] = load<Int>(at + i * L::count);
      }
      visit_values<L>(
          key, ~row.taken_from(x), [&](int i) { return at[i]; },
          [&](int32_t value, uint64_t same) {
            if (value >= 0 && class_area[value] == 0) {
              fill_bits(same, at, int32_t(-1));
            }
          });
    } else if (free_class >= 0 && class_area[free_class] == 0) {
      fill_bits(~row.taken_from(x), at, int32_t(-1));
    }
  }
  drop_small_stuff(class_area, row.instance, row.semantic, row.end(), row.width);
}

}  // namespace deeperlab::cpu
