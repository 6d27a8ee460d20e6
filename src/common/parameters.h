// SPDX-License-Identifier: Apache-2.0
// The one table of the fusion's parameters. Schemas of the operators, parsing, checks of ranges, the stubs of _numpy
// and the checks of FuseParams follow from it. What a parameter means and its default stand in
// python/deeperlab/params.py, its use in the header of its stage.
#pragma once

#include <cmath>
#include <functional>
#include <limits>
#include <variant>

#include "checks.h"
#include "deeperlab/problem.h"

namespace deeperlab::binding {

// The value of an option as Python gives it; monostate: None.
using Value = std::variant<std::monostate, bool, int64_t, double, std::string, Ints, Reals>;

enum class Kind { flag, integer, real, optional_real, word, integers, sizes, reals };

// As a schema of torch writes it.
constexpr const char* kind_names[] = {"bool", "int", "float", "float?", "str", "int[]", "SymInt[]", "float[]"};

struct Parameter {
  const char* name;
  std::vector<const char*> stages;  // that compute with it
  Kind kind;
  double low, high;  // bounds of a number
  double step;       // numbers are multiples of it; 0: any
  std::vector<const char*> choices;
  // Checks a value and puts it into its field, for a graph of `keypoints`.
  std::function<void(const Value& value, int keypoints, Params& params)> store;
};

using Stages = std::vector<const char*>;

inline Parameter integer(const char* name, const Stages& stages, int Params::* field, double low, double high) {
  return {name, stages, Kind::integer, low, high, 1, {}, [=](const Value& value, int, Params& params) {
            params.*field = int(in_range(name, std::get<int64_t>(value), low, high));
          }};
}

template <class Real, class StageParams>
Parameter real(const char* name, const Stages& stages, Real StageParams::* field, double low, double high) {
  return {name, stages, Kind::real, low, high, 0, {}, [=](const Value& value, int, Params& params) {
            params.*field = Real(in_range(name, std::get<double>(value), low, high));
          }};
}

// Kept as a number of 256ths.
inline Parameter weight(const char* name, const Stages& stages, int Params::* field, double low, double high) {
  return {name, stages, Kind::real, low, high, 0x1p-8, {}, [=](const Value& value, int, Params& params) {
            const double scaled = in_range(name, std::get<double>(value), low, high) * 256.0;
            require(scaled == std::floor(scaled), name, ": expected a multiple of 1/256, got ", scaled / 256.0);
            params.*field = int(scaled);
          }};
}

// Kept as its square.
inline Parameter length(const char* name, const Stages& stages, float Params::* field, double high) {
  return {name, stages, Kind::real, 0, high, 0, {}, [=](const Value& value, int, Params& params) {
            const double checked = in_range(name, std::get<double>(value), 0, high);
            params.*field = float(checked * checked);
          }};
}

// A root mean square over the keypoints, kept as the sum of their squares; None: no limit.
inline Parameter limit(const char* name, const Stages& stages, float Params::* field, double high) {
  return {name, stages, Kind::optional_real, 0, high, 0, {}, [=](const Value& value, int keypoints, Params& params) {
            params.*field = std::numeric_limits<float>::infinity();
            if (const double* given = std::get_if<double>(&value)) {
              const double checked = in_range(name, *given, 0, high);
              params.*field = float(double(keypoints) * (checked * checked));
            }
          }};
}

inline Parameter flag(const char* name, const Stages& stages, bool Params::* field) {
  return {name,       stages,
          Kind::flag, 0,
          1,          0,
          {},         [=](const Value& value, int, Params& params) {
            params.*field = std::get<bool>(value); }};
}

// One of two words; `field` tells whether it is the second.
inline Parameter choice(const char* name, const Stages& stages, bool Params::* field, const char* first,
                        const char* second) {
  return {name, stages, Kind::word, 0, 0, 0, {first, second}, [=](const Value& value, int, Params& params) {
            const std::string& word = std::get<std::string>(value);
            require(word == first || word == second, name, ": expected '", first, "' or '", second, "', got '", word,
                    "'");
            params.*field = word == second;
          }};
}

inline Parameter per_keypoint(const char* name, const Stages& stages, float (Params::*field)[max_keypoints], double low,
                              double high) {
  return {name, stages, Kind::reals, low, high, 0, {}, [=](const Value& value, int keypoints, Params& params) {
            const Reals& given = std::get<Reals>(value);
            require(int64_t(given.size()) == keypoints, name, ": expected ", keypoints,
                    " values, one per keypoint, got ", given.size());
            for (int k = 0; k < keypoints; ++k) {
              (params.*field)[k] = float(in_range(name, given[size_t(k)], low, high));
            }
          }};
}

// In the order of the stages and of FuseParams.
inline const std::vector<Parameter>& parameters() {
  static const std::vector<Parameter> table = {
      integer("long_steps", {"refine"}, &Params::long_steps, 0, 64),
      integer("long_short_steps", {"refine"}, &Params::long_short_steps, 0, 64),
      choice("long_voters", {"vote"}, &Params::all_voters, "thing", "all"),
      integer("vote_cell", {"vote", "peaks", "rescore"}, &Params::vote_cell, 1, 1024),
      weight("short_weight", {"vote"}, &Params::short_weight, 0, 8),  // both: or the votes leave int64, peaks.h
      weight("long_weight", {"vote"}, &Params::long_weight, 0, 8),
      real("radius", {"peaks", "rescore", "merge"}, &Params::radius, 1, 4096),
      real("peak_threshold", {"peaks"}, &Params::peak_threshold, 0, 1e6),
      integer("max_candidates", {"peaks"}, &Params::max_candidates, 1, most_candidates),
      integer("middle_steps", {"trace"}, &Params::middle_steps, 0, 64),
      per_keypoint("kappa", {"rescore"}, &Params::kappa, 1e-4, 1e4),
      flag("oks_cell", {"rescore"}, &Params::oks_cell),
      real("instance_threshold", {"select"}, &Params::instance_threshold, 0, 1),
      length("nms_radius", {"select"}, &Params::nms_radius2, 1e6),
      length("nms_radius_min", {"select"}, &Params::nms_radius_min2, 1e6),
      length("nms_relative", {"select"}, &Params::nms_relative2, 1e3),
      real("box_iou", {"select"}, &Params::box_iou, 0, 1),
      integer("max_instances", {"select"}, &Params::max_instances, 1, most_instances),
      limit("max_distance", {"assign"}, &Params::max_distance2, 1e6),
      choice("majority", {"merge"}, &Params::majority_all, "fit", "all"),
      real("fit_area", {"merge"}, &Params::fit_area, 0, 1e6),
  };
  return table;
}

}  // namespace deeperlab::binding
