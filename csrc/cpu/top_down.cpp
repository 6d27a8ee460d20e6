// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/top_down.h"

#include <algorithm>

#include "deeperlab/problem.h"
#include "top_down_fast.h"
#include "top_down_rows.h"

namespace deeperlab::cpu {
namespace {

// The rows of an image are counted in so many bands, each on its own; their sums do not depend on who did which.
constexpr int bands = 32;

struct Candidate {
  float score;
  int32_t detection;
};

struct Layout {
  Candidate* candidate;  // [N, K] best first
  int32_t* node_label;   // [N, h, w] of logits
  int32_t* free_area;    // [N, bands, C] pixels of no instance, by class
  int32_t* label_row;    // [N, bands, W]
  char* argmax;
  int64_t painter_bytes;  // of an image
  char* painter;          // [N, painter_bytes]
  int64_t bytes;
};

Problem semantic_problem(const TopDown& of) {
  Problem problem{};
  problem.shape = of.shape;
  return problem;
}

Layout lay_out(const TopDown& of, void* block) {
  Scratch scratch(block);
  const Shape& shape = of.shape;
  const int64_t images = shape.images;
  const bool logits = is_floating(of.semantic.type);
  Layout at{};
  at.candidate = scratch.take<Candidate>(images * of.detections);
  at.node_label = scratch.take<int32_t>(logits ? images * shape.nodes() : 0);
  at.free_area = scratch.take<int32_t>(images * bands * shape.classes);
  at.label_row = scratch.take<int32_t>(images * bands * shape.width);
  at.argmax = scratch.take<char>(logits ? argmax_scratch_bytes(semantic_problem(of)) : 0);
  at.painter_bytes = PaintLayout(of, nullptr).bytes;
  at.painter = scratch.take<char>(images * at.painter_bytes);
  at.bytes = scratch.bytes();
  return at;
}

// The candidates of an image, best first; returns their number.
int32_t sort_candidates(const TopDown& of, int64_t n, Candidate* candidate) {
  int32_t count = 0;
  for (int k = 0; k < of.detections; ++k) {
    if (is_candidate(of, n, k)) {
      candidate[count++] = {of.score[n * of.detections + k], k};
    }
  }
  std::sort(candidate, candidate + count, [](const Candidate& a, const Candidate& b) {
    return a.score > b.score || (a.score == b.score && a.detection < b.detection);
  });
  return count;
}

// The plain form: every pixel of a mask's area is asked whether it is in the mask.
template <class T>
struct PlainPainter {
  const TopDown& of;
  int64_t n;
  int32_t* instance;  // [H, W]

  template <class Visit>
  void visit(int k, const Visit& visit) const {
    const PasteArea area = paste_area(of, n, k);
    const Plane<T> mask = of.mask.plane<T>(n, k);
    for (int y = area.rows.begin; y < area.rows.end; ++y) {
      for (int x = area.columns.begin; x < area.columns.end; ++x) {
        if (is_in_mask(of, area, mask, y, x)) {
          visit(instance[int64_t(y) * of.shape.width + x]);
        }
      }
    }
  }

  MaskCount measure(int k) const {
    MaskCount found{0, 0};
    visit(k, [&](int32_t owner) {
      ++found.area;
      found.overlap += owner > 0;
    });
    return found;
  }

  void paint(int k, int32_t number) const {
    visit(k, [&](int32_t& owner) { owner = owner > 0 ? owner : number; });
  }
};

// Candidates become instances, best first, as long as there is room: two passes over the area of each, one that counts
// and one that writes.
template <class Painter>
void accept(const TopDown& of, int64_t n, const Candidate* candidate, int32_t candidates, const Painter& painter,
            const Panoptic& out, const Parallel& parallel) {
  const int64_t room = of.room;
  float* const score = out.found.score + n * room;
  int32_t *const category = out.category + n * room, *const area = out.area + n * room;
  int32_t count = 0;
  bool truncated = false;
  for (int32_t i = 0; i < candidates && !truncated && !parallel.stopped(parallel); ++i) {
    const int k = candidate[i].detection;
    const MaskCount found = painter.measure(k);
    if (!is_accepted(found.area, found.overlap, of.overlap_threshold)) {
      continue;
    }
    truncated = count == room;
    if (!truncated) {
      score[count] = candidate[i].score;
      area[count] = int32_t(found.area - found.overlap);
      category[count] = area[count] > 0 ? of.label[n * of.detections + k] : -1;
      painter.paint(k, ++count);
    }
  }
  std::fill(score + count, score + room, 0.0f);
  std::fill(category + count, category + room, -1);
  std::fill(area + count, area + room, 0);
  out.found.count[n] = count;
  out.found.truncated[n] = truncated;
}

// The labels of a row of a given map.
template <class I, bool dense>
void read_labels(const TopDown& of, int64_t n, int y, int32_t* row) {
  const View map = of.semantic;
  const int width = of.shape.width, classes = of.shape.classes;  // `row` may not be them, as the compiler has to fear
  const I* const from = static_cast<const I*>(map.data) + n * map.image + y * map.row;
  for (int x = 0; x < width; ++x) {
    row[x] = valid_label(int64_t(from[dense ? x : x * map.column]), classes);
  }
}

// The classes of a band of rows, those of small stuff still among them; `free_area` counts its pixels of no instance.
struct Band {
  const TopDown& of;
  const Layout& layout;
  const Panoptic& out;
  int64_t n, index;

  int begin() const { return int(int64_t(of.shape.height) * index / bands); }
  int end() const { return int(int64_t(of.shape.height) * (index + 1) / bands); }
  int64_t row_of(int y) const { return (n * of.shape.height + y) * of.shape.width; }
  int32_t* free_area() const { return layout.free_area + (n * bands + index) * of.shape.classes; }

  PixelClasses classes() const { return {of.stuff, of.shape.classes, out.category + n * of.room, free_area()}; }

  // write_row(y, label, semantic, instance) for every row.
  template <class WriteRow>
  void write(const WriteRow& write_row) const {
    std::fill_n(free_area(), of.shape.classes, 0);
    for (int y = begin(); y < end(); ++y) {
      int32_t* const semantic = out.semantic + row_of(y);
      write_row(y, labels_of(y, semantic), semantic, out.instance + row_of(y));
    }
  }

  // Of a row, some perhaps no class: where the map has them as they are, as argmax has left them, or converted.
  const int32_t* labels_of(int y, const int32_t* semantic) const {
    const View& map = of.semantic;
    if (is_floating(map.type)) {
      return semantic;
    }
    if (map.type == Type::int32 && map.column == 1) {
      return map.plane<int32_t>(n, 0).data + y * map.row;
    }
    int32_t* const row = layout.label_row + (n * bands + index) * of.shape.width;
    with_integer_type(map.type, [&](auto element) {
      with_density(map.column == 1,
                   [&](auto dense) { read_labels<decltype(element), decltype(dense)::value>(of, n, y, row); });
    });
    return row;
  }

  // Once class_area tells which classes have no pixels left.
  bool has_small_stuff() const {
    for (int64_t c = 0; c < of.shape.classes; ++c) {
      if (free_area()[c] > 0 && out.class_area[n * of.shape.classes + c] == 0) {
        return true;
      }
    }
    return false;
  }
};

void add_up_classes(const TopDown& of, int64_t n, const int32_t* free_area, int32_t* class_area) {
  const int64_t classes = of.shape.classes;
  for (int64_t c = 0; c < classes; ++c) {
    int64_t sum = 0;
    for (int64_t band = 0; band < bands; ++band) {
      sum += free_area[(n * bands + band) * classes + c];
    }
    class_area[n * classes + c] = sum < of.stuff_area ? 0 : int32_t(sum);
  }
}

}  // namespace

DetectionFault find_fault(const TopDown& of) {
  for (int64_t n = 0; n < of.shape.images; ++n) {
    for (int k = 0; k < of.detections; ++k) {
      const int64_t at = n * of.detections + k;
      if (of.score[at] != of.score[at]) {
        return {DetectionFault::score, n, k};
      }
      if (double(of.score[at]) < of.score_threshold || is_candidate(of, n, k)) {
        continue;
      }
      const int32_t label = of.label[at];
      const bool is_thing = label < of.shape.classes && of.things->has(label);
      return {is_thing ? DetectionFault::box : DetectionFault::label, n, k};
    }
  }
  return {DetectionFault::none, 0, 0};
}

int64_t top_down_scratch_bytes(const TopDown& of) { return lay_out(of, nullptr).bytes; }

void top_down(const TopDown& of, const Panoptic& out, void* scratch, const Parallel& parallel) {
  const Shape& shape = of.shape;
  const Layout layout = lay_out(of, scratch);
  const bool fast = parallel.simd != Simd::plain;
  if (is_floating(of.semantic.type)) {
    argmax(of.semantic, semantic_problem(of), {layout.node_label, nullptr, nullptr, true}, out.semantic, layout.argmax,
           parallel);
  }
  parallel_for(parallel, shape.images, 1, [&](int64_t n) {
    Candidate* const candidate = layout.candidate + n * of.detections;
    const int32_t candidates = sort_candidates(of, n, candidate);
    int32_t* const instance = out.instance + n * shape.pixels();
    const PaintLayout paint(of, layout.painter + n * layout.painter_bytes);
    with_mask_type(of, [&](auto element) {
      using T = decltype(element);
      if (!fast) {
        std::fill_n(instance, shape.pixels(), 0);
        return accept(of, n, candidate, candidates, PlainPainter<T>{of, n, instance}, out, parallel);
      }
      std::fill_n(paint.taken, shape.height * paint.words, uint64_t(0));
      with_simd(parallel.simd, [&](auto lanes) {
        accept(of, n, candidate, candidates,
               FastPainter<decltype(lanes), T>{of, n, paint, out.semantic + n * shape.pixels()}, out, parallel);
      });
    });
  });

  const auto each_band = [&](const auto& task) {
    parallel_for(parallel, int64_t(shape.images) * bands, 1,
                 [&](int64_t i) { task(Band{of, layout, out, i / bands, i % bands}); });
  };
  const auto painted = [&](const Band& band) {
    return PaintLayout(of, layout.painter + band.n * layout.painter_bytes);
  };
  const auto row_of = [&](const Band& band, const PaintLayout& paint, int y) {
    const int64_t at = band.row_of(y);
    return MapRow{paint.taken_row(y), paint.owner_row(y), paint.number_row(y), paint.free_class_row(y),
                  out.semantic + at,  out.instance + at,  shape.width};
  };
  // Lines of both maps have to begin at the same pixels.
  const bool streams = shape.pixels() * int64_t(sizeof(int32_t)) >= too_large_to_stay &&
                       elements_to_line(out.semantic) == elements_to_line(out.instance);
  each_band([&](const Band& band) {
    const PixelClasses classes = band.classes();
    if (!fast) {
      return band.write([&](int, const int32_t* label, int32_t* semantic, const int32_t* instance) {
        classes.write(label, instance, semantic, 0, shape.width);
      });
    }
    const PaintLayout paint = painted(band);
    with_simd(parallel.simd, [&](auto lanes) {
      const auto write = [&](auto around_the_cache) {
        const RowWriter<decltype(lanes), decltype(around_the_cache)::value> writer{classes};
        band.write(
            [&](int y, const int32_t* label, int32_t*, int32_t*) { writer.write(label, row_of(band, paint, y)); });
      };
      streams ? write(std::true_type{}) : write(std::false_type{});
    });
    end_stream();
  });
  parallel_for(parallel, shape.images, 1, [&](int64_t n) { add_up_classes(of, n, layout.free_area, out.class_area); });
  each_band([&](const Band& band) {
    if (!band.has_small_stuff()) {
      return;
    }
    const int32_t* const class_area = out.class_area + band.n * shape.classes;
    for (int y = band.begin(); y < band.end(); ++y) {
      const int32_t* const instance = out.instance + band.row_of(y);
      int32_t* const semantic = out.semantic + band.row_of(y);
      if (!fast) {
        drop_small_stuff(class_area, instance, semantic, 0, shape.width);
      } else {
        with_simd(parallel.simd, [&](auto lanes) {
          drop_small_stuff_fast<decltype(lanes)>(class_area, row_of(band, painted(band), y));
        });
      }
    }
  });
}

}  // namespace deeperlab::cpu
