// SPDX-License-Identifier: Apache-2.0
// The loops of crf over pixels: their scores, and an update, which hears what is said to the pixels, finds their Q, and
// at once says what they have to say, so that Q itself is never written to memory.
#pragma once

#include "crf_lattice_fast.h"

namespace deeperlab::cpu {

template <class L>
typename L::Float greatest_of_row(const float* scores, int64_t row) {
  using V = typename L::Float;
  V most = load<V>(scores);
  for (int64_t i = L::count; i < row; i += L::count) {
    most = maximum(most, load<V>(scores + i));
  }
  return most;
}

// The scores of a pixel, from two rows of nodes. Those of no class lie far below all others.
template <class L>
void read_pixel(const Crf& of, const Cell& cell, const float* upper, const float* lower, float* scores) {
  using V = typename L::Float;
  const int row = of.row();
  const Between at = between_corners(cell, of.shape.stride);
  const int64_t left = int64_t(at.x) * row, right = at.fx == 0.0f ? left : left + row;
  for (int i = 0; i < row; i += L::count) {
    const V top = blend_alike(load<V>(upper + left + i), load<V>(upper + right + i), at.fx);
    V value = top;
    if (at.fy != 0.0f) {
      const V bottom = blend_alike(load<V>(lower + left + i), load<V>(lower + right + i), at.fx);
      value = blend_alike(top, bottom, at.fy);
    }
    store(scores + i, crf_score(value, of.probable));
  }
  std::fill(scores + of.shape.classes, scores + row, -infinity);
  const V top = broadcast<V>(greatest_lane<L>(greatest_of_row<L>(scores, row)));
  for (int i = 0; i < row; i += L::count) {
    store(scores + i, maximum(load<V>(scores + i) - top, broadcast<V>(4.0f * least_crf_score)));
  }
}

// What is said to the pixels; null: nothing.
struct Messages {
  const float* vertices;  // [M + 1] rows
  const float* nodes;     // [nodes of H, nodes of W] rows
};

// An update: what the pixels hear, and where it goes.
struct Update {
  Messages heard;
  const float* unary;  // [P] rows that it is added to, or null
  bool is_share;       // Q is the softmax of that, else the sum itself
  float* nodes;        // what they give to nodes, or null
  bool splats;         // and to groups of the lattice
  float* out;          // [C, H, W] Q, which is said to nobody, or null
};

// The vertices of a part's groups, which its pixels read again and again.
template <class L, class Wide>
void gather_vertices(const Crf& of, const CrfMemory& memory, const float* vertices, int64_t part, float* to) {
  const int64_t row = of.row();
  const int32_t begin = memory.lattice.before[part], end = memory.lattice.before[part + 1];
  visit_row<L, Wide>(int(row), [&](auto vectors, int at) {
    using Values = decltype(vectors);
    const auto vertex = [&](int32_t group) { return vertices + memory.links.vertex[group] * row + at; };
    for (int32_t i = begin; i < end; ++i) {
      Values::fetch(vertex(std::min(i + rows_ahead, end - 1)));
      Values::read(vertex(i)).write(to + (i - begin) * row + at);
    }
  });
}

// What row y of a part hears, and its scores, which are written to room.share. `nodes` are those that its row hears.
template <class L, class Wide>
void hear(const Crf& of, const CrfMemory& memory, const Update& update, const Part& part, int y, const float* nodes,
          const BandRoom& room) {
  const int64_t row = of.row(), first = part.place(y, part.left);
  const float factor = of.w2 > 0.0f ? memory.values.lines[y].out * of.w2 : 0.0f;
  visit_row<L, Wide>(int(row), [&](auto vectors, int at) {
    using Sum = decltype(vectors);
    for (int i = 0; i < part.columns(); ++i) {
      const int x = part.left + i;
      const int64_t pixel = first + i;
      Sum sum{};
      if (update.unary != nullptr) {
        sum = Sum::read(update.unary + pixel * row + at);
        Sum::fetch(update.unary + (pixel + rows_ahead) * row + at);
      }
      if (update.heard.nodes != nullptr) {
        const Sum said = hear_nodes<Sum>(x, of.step, [&](int node) { return Sum::read(nodes + node * row + at); });
        sum = sum + said * (memory.values.columns[x].out * factor);
      }
      if (update.heard.vertices != nullptr) {
        const uint16_t* const group = memory.lattice.group + pixel * crf_corners;
        const float* const weight = memory.lattice.weight + pixel * crf_corners;
        Sum said = Sum::read(room.vertex + group[0] * row + at) * weight[0];
        for (int k = 1; k < crf_corners; ++k) {
          said = said + Sum::read(room.vertex + group[k] * row + at) * weight[k];
        }
        sum = sum + said * memory.lattice.factors[pixel].out;
      }
      sum.write(room.share + i * row + at);
    }
  });
}

// What row y of a part says to its groups.
template <class L, class Wide>
void say(const Crf& of, const CrfMemory& memory, const Part& part, int y, float* groups, const BandRoom& room) {
  const int64_t row = of.row(), first = part.place(y, part.left);
  visit_row<L, Wide>(int(row), [&](auto vectors, int at) {
    using Sum = decltype(vectors);
    for (int i = 0; i < part.columns(); ++i) {
      const int64_t pixel = first + i;
      const uint16_t* const group = memory.lattice.group + pixel * crf_corners;
      const float* const weight = memory.lattice.weight + pixel * crf_corners;
      const Sum own = Sum::read(room.share + i * row + at) * memory.lattice.factors[pixel].in;
      for (int k = 0; k < crf_corners; ++k) {
        float* const to = groups + group[k] * row + at;
        (Sum::read(to) + own * weight[k]).write(to);
      }
    }
  });
}

// The halves of all of them are joined until one is left: of eight ((0, 4), (2, 6)), ((1, 5), (3, 7)).
template <class V, int count, class Join>
V join_halves(V (&values)[count], const Join& join) {
  for (int half = count / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) {
      values[i] = join(values[i], values[i + half]);
    }
  }
  return values[0];
}

// Joins the lanes of a vector for each of up to 64 pixels, of(pixel): as many pixels as lanes at once.
template <class L, class Of, class Join>
void join_across(int count, const Of& of, const Join& join, float (&joined)[crf_part_columns]) {
  using V = typename L::Float;
  for (int first = 0; first < count; first += L::count) {
    V pixels[L::count];
    for (int i = 0; i < L::count; ++i) {
      pixels[i] = of(std::min(first + i, count - 1));
    }
    if constexpr (L::count > 1) {
      transpose(pixels);
    }
    store(joined + first, join_halves(pixels, join));
  }
}

// Scores of up to 64 pixels become Q, their softmax.
template <class L, class Wide>
void share_out(float* scores, int count, int row) {
  using V = typename L::Float;
  const auto change_rows = [&](const auto& change) {  // change(vectors, pixel)
    visit_row<L, Wide>(row, [&](auto vectors, int at) {
      for (int i = 0; i < count; ++i) {
        float* const to = scores + int64_t(i) * row + at;
        change(decltype(vectors)::read(to), i).write(to);
      }
    });
  };
  float joined[crf_part_columns];
  join_across<L>(
      count, [&](int i) { return greatest_of_row<L>(scores + int64_t(i) * row, row); },
      [](const V& a, const V& b) { return maximum(a, b); }, joined);
  change_rows([&](const auto& score, int i) { return score + -joined[i]; });
  float *at = scores, *const end = scores + int64_t(count) * row;
  for (; end - at >= Wide::count; at += Wide::count) {
    store(at, crf_share(load<typename Wide::Float>(at)));
  }
  for (; at < end; at += L::count) {
    store(at, crf_share(load<V>(at)));
  }
  const auto add = [](const V& a, const V& b) { return a + b; };
  const auto sums = [&](int i) {
    constexpr int parts = crf_group / L::count;
    V sum[parts]{};
    for (int c = 0; c < row; c += crf_group) {
      for (int k = 0; k < parts; ++k) {
        sum[k] = sum[k] + load<V>(scores + int64_t(i) * row + c + k * L::count);
      }
    }
    return join_halves(sum, add);
  };
  join_across<L>(count, sums, add, joined);
  change_rows([&](const auto& share, int i) { return share * (1.0f / joined[i]); });
}

// A line of so many floats, filtered: what is r nodes away from a float lies r · step floats away.
template <class L, class Wide>
void filter_floats(const float* weight, int half_width, const float* from, int64_t step, int64_t floats, float* to) {
  const auto filter = [&](auto part) {
    using Part = decltype(part);
    visit_blocks(floats, Part::floats, [&](int64_t i) {
      filter_line<Part>(weight, half_width, [&](int r) { return Part::read(from + i + r * step); }).write(to + i);
    });
  };
  using Four = Several<typename Wide::Float, 4>;  // whose sums do not wait for each other
  if (floats >= Four::floats) {
    filter(Four{});
  } else {
    filter(Several<typename L::Float, 1>{});
  }
}

// What the rows of a band hear from the nodes: lines of room.heard.
template <class L, class Wide>
void filter_nodes(const Crf& of, const CrfValues& values, const float* nodes, const Part& first, const BandRoom& room) {
  const int64_t row = of.row(), floats = of.nodes(of.shape.width) * row;
  const int reach = of.reach(of.shape.width);
  float* const line = room.framed + reach * row;
  std::fill(room.framed, line, 0.0f);
  std::fill(line + floats, line + floats + reach * row, 0.0f);
  const auto heard = [&](int y) { return room.heard + (y - first.top) * floats; };
  for (int y = first.top; y < first.bottom + of.step - 1 && y / of.step < of.nodes(of.shape.height); y += of.step) {
    const float* const own = nodes + y / of.step * floats;
    filter_floats<L, Wide>(values.weight, of.reach(of.shape.height), own, floats, floats, line);
    filter_floats<L, Wide>(values.weight, reach, line, row, floats, heard(y));
  }
  using V = typename L::Float;
  for (int y = first.top + 1; of.step == 2 && y < first.bottom; y += 2) {
    const float *const above = heard(y - 1), *const below = heard(y + 1);
    for (int64_t i = 0; i < floats; i += L::count) {
      store(heard(y) + i, (load<V>(above + i) + load<V>(below + i)) * 0.5f);
    }
  }
}

// What row y of a part gives to the nodes.
template <class L, class Wide>
void give(const Crf& of, const CrfValues& values, float* nodes, const Part& part, int y, const BandRoom& room) {
  const int64_t row = of.row();
  const float factor = values.lines[y].in;
  const CrfFactors* const columns = values.columns + part.left;
  float* const to = nodes + (int64_t(y / of.step) * of.nodes(of.shape.width) + part.left / of.step) * row;
  visit_row<L, Wide>(int(row), [&](auto vectors, int at) {
    using Sum = decltype(vectors);
    const auto share = [&](int x, float part_of_it) {
      return Sum::read(room.share + x * row + at) * (columns[x].in * part_of_it);
    };
    if (of.step == 1) {
      for (int x = 0; x < part.columns(); ++x) {
        (share(x, 1.0f) * factor).write(to + x * row + at);
      }
      return;
    }
    float* const beside = room.beside + (y - part.top) * row + at;
    Sum before = Sum::read(beside);  // half of what the pixel between this node and the one before has
    const auto give_node = [&](int node, const Sum& given) {
      const int64_t here = node * row + at;
      if (y % 2 == 0) {
        const Sum own = given * factor;
        own.write(room.own + here);
        if (y + 1 == of.shape.height) {
          (own + Sum::read(room.before + here)).write(to + here);
        }
      } else {
        const Sum half = given * (factor * 0.5f);
        (Sum::read(room.own + here) + half + Sum::read(room.before + here)).write(to + here);
        half.write(room.before + here);
      }
    };
    int x = 0;
    for (; x + 1 < part.columns(); x += 2) {
      const Sum half = share(x + 1, 0.5f);
      give_node(x / 2, share(x, 1.0f) + half + before);
      before = half;
    }
    if (x < part.columns()) {
      give_node(x / 2, share(x, 1.0f) + before);
    } else if (part.right == of.shape.width) {
      give_node(x / 2, before);
    }
    before.write(beside);
  });
}

// A band of rows, part by part: what its pixels hear, and Q, which goes on at once, while it is in the nearest cache.
template <class L, class Wide>
void update_band(const Crf& of, const CrfMemory& memory, const Update& update, int band, const BandRoom& room) {
  const Shape& shape = of.shape;
  const CrfValues& values = memory.values;
  const int64_t row = of.row(), line = of.nodes(shape.width) * row;
  const int64_t first = int64_t(band) * of.part_columns();
  std::fill(room.beside, room.beside + crf_part_rows * row, 0.0f);
  for (int64_t number = first; number < first + of.part_columns(); ++number) {
    const Part part(of, number);
    if (number == first && update.heard.nodes != nullptr) {
      filter_nodes<L, Wide>(of, values, update.heard.nodes, part, room);
    }
    float* groups = nullptr;
    if (update.heard.vertices != nullptr) {
      gather_vertices<L, Wide>(of, memory, update.heard.vertices, number, room.vertex);
    }
    if (update.splats) {
      groups = values.group + memory.lattice.before[number] * row;
      std::fill(groups, values.group + memory.lattice.before[number + 1] * row, 0.0f);
    }
    const int nodes = (part.columns() + 2) / 2;
    std::fill(room.before, room.before + nodes * row, 0.0f);
    for (int y = part.top; y < part.bottom; ++y) {
      hear<L, Wide>(of, memory, update, part, y, room.heard + (y - part.top) * line, room);
      if (update.is_share) {
        share_out<L, Wide>(room.share, part.columns(), int(row));
      }
      if (update.splats) {
        say<L, Wide>(of, memory, part, y, groups, room);
      }
      if (update.nodes != nullptr) {
        give<L, Wide>(of, values, update.nodes, part, y, room);
      }
      for (int c = 0; update.out != nullptr && c < shape.classes; ++c) {
        float* const to = update.out + c * shape.pixels() + int64_t(y) * shape.width + part.left;
        for (int64_t x = 0; x < part.columns(); ++x) {
          to[x] = room.share[x * row + c];
        }
      }
    }
    if (update.nodes != nullptr && of.step == 2 && part.bottom % 2 == 0) {  // what the last row gives to those below
      float* const below =
          part.bottom == shape.height ? update.nodes + part.bottom / 2 * line : values.seam + band * line;
      const int64_t count = part.right == shape.width ? nodes : part.columns() / 2;
      std::copy(room.before, room.before + count * row, below + part.left / 2 * row);
    }
  }
}

}  // namespace deeperlab::cpu
