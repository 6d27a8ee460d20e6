// SPDX-License-Identifier: Apache-2.0
// Every formula that is a template over the number type, of one float at a time and of vectors of every width that this
// machine has, over values that are random bits, specials and neighbors of specials. Prints "form formula differences".
#include <cstdio>
#include <random>
#include <vector>

#include "deeperlab/fuse.h"
#include "deeperlab/resample.h"
#include "deeperlab/semantic_loss.h"
#include "simd/dispatch.h"
#include "simd/number.h"

namespace deeperlab {
namespace {

constexpr int inputs = 8, count = 1 << 14;  // values of each input; whole vectors of any width

struct Table {
  std::vector<float> column[inputs];

  Table() {
    std::mt19937 random(11);
    const float special[] = {
        0.0f,   -0.0f,   1.0f,           -1.0f,         0.5f,           infinity,       -infinity,         NAN,
        1e-45f, -1e-45f, 1.1754944e-38f, 3.4028235e38f, -3.4028235e38f, least_exponent, greatest_exponent, 7.5f,
        100.0f};
    for (auto& values : column) {
      for (int i = 0; i < count; ++i) {
        const uint32_t bits = uint32_t(random()), kind = random() % 4;
        float value = kind == 0 ? bit_cast<float>(bits) : float(int32_t(bits)) * 0x1p-24f;  // the latter: ±128
        if (kind == 1) {
          value = special[bits % (sizeof special / sizeof *special)];
          value = bits >> 30 == 0 ? bit_cast<float>(bit_cast<int32_t>(value) + 1) : value;
        }
        values.push_back(value);
      }
    }
  }
};

// NaN is NaN, whatever its sign and payload.
template <class V>
IntOf<V> bits_of_value(const V& value) {
  return select(equal(value, value), bit_cast<IntOf<V>>(value), broadcast<IntOf<V>>(-1));
}

template <class V>
V inside(const V& value, float high) {
  return clamp(value * 0.5f, 0.0f, high);
}

template <class V>
IntOf<V> flag(const MaskOf<V>& mask) {
  return select(mask, broadcast<IntOf<V>>(1), IntOf<V>{});
}

// Calls check(name, formula) for each, where formula(in) gives an IntOf<V> for in[inputs], an array of any V.
template <class Check>
void visit_formulas(const Check& check) {
  static const Shape shape{1, 66, 33, 41, 4, 129, 161};
  static Params params{};
  params.vote_cell = 4;
  params.radius = 25.0;
  params.nms_radius2 = 2000.0f;
  params.nms_radius_min2 = 4.0f;
  params.nms_relative2 = 20.0f;
  params.box_iou = 0.5f;
  static const OksKernel kernel{40.0f, 25.0f, 625.0f, 0, 1, 0, 1};
  static const Box box{-3.0f, 1.5f, 20.0f, 33.0f};
  static const CellCorners corners{{3, 5, 3, 7}, {1, 2, 0, 1}, {4.0f, 4.0f, infinity, 2.0f}, {true, true, true, false}};

  check("exp", [](const auto* in) { return bits_of_value(exp(in[0])); });
  check("exp_below_zero", [](const auto* in) { return bits_of_value(exp_below_zero(minimum(in[0], -in[0]))); });
  check("log", [](const auto* in) {
    using V = std::decay_t<decltype(*in)>;
    return bits_of_value(log(maximum(broadcast<V>(1.0f), in[0] * in[0])));
  });
  check("sigmoid", [](const auto* in) { return bits_of_value(sigmoid(in[0])); });
  check("round", [](const auto* in) { return round_to_int(clamp(in[0], -4194304.0f, 4194304.0f)); });
  check("divide", [](const auto* in) { return bits_of_value(divide(in[0], 4)) ^ bits_of_value(divide(in[1], 7)); });
  check("half", [](const auto* in) {
    using V = std::decay_t<decltype(*in)>;
    return bits_of_value(to_float<V>(bit_cast<IntOf<V>>(in[0]) & 0xffff, Half{}));
  });
  check("bfloat16", [](const auto* in) {
    using V = std::decay_t<decltype(*in)>;
    return bits_of_value(to_float<V>(bit_cast<IntOf<V>>(in[0]) & 0xffff, BFloat16{}));
  });
  check("between_nodes", [](const auto* in) {
    using V = std::decay_t<decltype(*in)>;
    const BetweenOf<V> at = between_nodes(PointOf<V>{in[0], in[1]}, 33, 41);
    return at.y * 64 + at.x + bits_of_value(at.fx) + bits_of_value(at.fy) * 3;
  });
  check("interpolate", [](const auto* in) {
    using V = std::decay_t<decltype(*in)>;
    return bits_of_value(interpolate<V>({in[0], in[1], in[2], in[3]}, inside(in[4], 0.75f), inside(in[5], 0.75f)));
  });
  check("between_given", [](const auto* in) {
    using V = std::decay_t<decltype(*in)>;
    return bits_of_value(
        between_given<V>({in[0], in[1], in[2], in[3]}, inside(in[4], 0.75f), inside(in[5], 0.75f), -1.5f));
  });
  check("in_image", [](const auto* in) {
    using V = std::decay_t<decltype(*in)>;
    return flag<V>(in_image(PointOf<V>{in[0], in[1]}, shape));
  });
  check("splat", [](const auto* in) {
    using V = std::decay_t<decltype(*in)>;
    const SplatOf<V> vote =
        splat(PointOf<V>{inside(in[0], 160.0f), inside(in[1], 128.0f)}, inside(in[2], 1.0f), vote_grid(shape, params));
    return vote.y * 64 + vote.x + vote.share[0][0] * 3 + vote.share[0][1] * 5 + vote.share[1][0] * 7 +
           vote.share[1][1] * 11;
  });
  check("oks_weight", [](const auto* in) { return oks_weight(inside(in[0], 3e38f), kernel); });
  check("conflicts", [](const auto* in) {
    using V = std::decay_t<decltype(*in)>;
    return flag<V>(conflicts(Point{3.0f, 4.0f}, 250.0f, PointOf<V>{in[0], in[1]}, in[2], params));
  });
  check("suppresses", [](const auto* in) {
    using V = std::decay_t<decltype(*in)>;
    return flag<V>(suppresses(BoxOf<V>{in[0], in[1], in[2], in[3]}, BoxOf<V>{in[4], in[5], in[6], in[7]}, params));
  });
  check("add_distance", [](const auto* in) {
    using V = std::decay_t<decltype(*in)>;
    return bits_of_value(add_distance(in[0], PointOf<V>{in[1], in[2]}, Point{3.0f, 4.0f}));
  });
  check("add_least_distance", [](const auto* in) {
    using V = std::decay_t<decltype(*in)>;
    return bits_of_value(add_least_distance(in[0], box, PointOf<V>{in[1], in[2]}));
  });
  check("add_greatest_distance", [](const auto* in) {
    using V = std::decay_t<decltype(*in)>;
    return bits_of_value(add_greatest_distance(in[0], box, PointOf<V>{in[1], in[2]}));
  });
  check("choose_instance", [](const auto* in) {
    using V = std::decay_t<decltype(*in)>;
    IntOf<V> weight[4];
    for (int i = 0; i < 4; ++i) {
      weight[i] = bit_cast<IntOf<V>>(in[i]) & 3;
    }
    return choose_instance(corners, (bit_cast<IntOf<V>>(in[4]) & 7), weight);
  });
  check("loss_of_share", [](const auto* in) {
    using V = std::decay_t<decltype(*in)>;
    ScoreSum<V> all, chosen;
    for (int i = 0; i < 6; ++i) {
      all.raise(in[i]);
      if (i % 2 == 0) {
        chosen.raise(in[i]);
      }
    }
    for (int i = 0; i < 6; ++i) {
      all.add(in[i]);
      if (i % 2 == 0) {
        chosen.add(in[i]);
      }
    }
    return bits_of_value(loss_of_share(all, chosen)) ^ bits_of_value(all.log_sum()) * 3;
  });
  check("score_gradient", [](const auto* in) {
    using V = std::decay_t<decltype(*in)>;
    const V wanted = share_of_stuff(in[0], in[1], in[2]);
    return bits_of_value(score_gradient(in[3], share_of(in[0], in[1]), wanted));
  });
  check("add_column", [](const auto* in) {
    using V = std::decay_t<decltype(*in)>;
    ColumnGradient<V> column;
    for (int i = 0; i < 4; ++i) {
      column.add(in[i], float(i) * 0.25f);
    }
    CornersOf<V> corners{in[4], in[5], in[6], in[7]};
    add_column(column, inside(in[5], 0.75f), corners);
    return bits_of_value(corners.top_left) ^ bits_of_value(corners.top_right) * 3 ^
           bits_of_value(corners.bottom_left) * 5 ^ bits_of_value(corners.bottom_right) * 7;
  });
  check("best", [](const auto* in) {
    using V = std::decay_t<decltype(*in)>;
    BestOf<V> best;
    for (const int candidate : {5, 2, 7, 0}) {
      best.offer(in[candidate], candidate);
    }
    return best.label + bits_of_value(best.score);
  });
}

template <class L>
void compare(const char* form, const Table& table) {
  visit_formulas([&](const char* name, const auto& formula) {
    int differences = 0, distinct = 0;
    int32_t last = 0;
    for (int i = 0; i < count; i += L::count) {
      typename L::Float in[inputs];
      for (int k = 0; k < inputs; ++k) {
        in[k] = cpu::load<typename L::Float>(table.column[k].data() + i);
      }
      int32_t got[L::count];
      cpu::store(got, formula(static_cast<const typename L::Float*>(in)));
      for (int lane = 0; lane < L::count; ++lane) {
        float one[inputs];
        for (int k = 0; k < inputs; ++k) {
          one[k] = table.column[k][size_t(i + lane)];
        }
        const int32_t want = formula(static_cast<const float*>(one));
        differences += got[lane] != want;
        distinct += want != last;
        last = want;
      }
    }
    printf("%s %s %d %d\n", form, name, differences, distinct);
  });
}

// Elements whose type is known at run time alone, beside those whose type is compiled in.
void compare_types(const Table& table) {
  const char* const names[] = {"plane_of_float32", "plane_of_float16", "plane_of_bfloat16"};
  for (const Type type : {Type::float32, Type::float16, Type::bfloat16}) {
    const View view{table.column[0].data(), type, 4000, 37, 256, 2};
    int differences = 0, changes = 0;
    int32_t last = 0;
    with_float_type(type, [&](auto element) {
      for (int i = 0; i < 2 * 3 * 10 * 100; ++i) {
        const int n = i / 3000, c = i / 1000 % 3, y = i / 100 % 10, x = i % 100;
        const int32_t want = bits_of_value(view.plane<decltype(element)>(n, c)(y, x));
        differences += bits_of_value(view.plane<AnyFloat>(n, c)(y, x)) != want;
        changes += want != last;
        last = want;
      }
    });
    printf("any_float %s %d %d\n", names[int(type)], differences, changes);
  }
}

}  // namespace
}  // namespace deeperlab

int main() {
  using namespace deeperlab;
  const Table table;
  compare_types(table);
  const char* const names[] = {"plain", "baseline", "avx2", "avx512"};
  for (int simd = 1; simd <= int(cpu::best_simd()); ++simd) {
    cpu::with_simd(cpu::Simd(simd), [&](auto lanes) { compare<decltype(lanes)>(names[simd], table); });
  }
}
