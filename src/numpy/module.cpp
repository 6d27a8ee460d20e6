// SPDX-License-Identifier: Apache-2.0
// deeperlab._numpy: the fusion and each of its stages for NumPy arrays, without torch. Arguments as in ops.cpp.
#include "arrays.h"
#include "common/fuse.h"
#include "module.h"
#include "common/stages.h"

namespace deeperlab::binding {
namespace {

template <auto Function, class... Names>
void define(py::module_& m, const char* name, Names... names) {
  m.def(name, &Threaded<Function>::call, names..., py::arg("num_threads") = 1);
}

void register_stages(py::module_& m) {
  using py::arg;
  const py::kw_only options;
  define<&argmax<ArrayFace>>(m, "argmax", arg("semantic"), options, arg("num_classes"), arg("stride"), arg("nodes"),
                             arg("size"));
  define<&refine<ArrayFace>>(m, "refine", arg("long_range"), arg("short_range"), options, arg("stride"),
                             arg("long_steps"), arg("long_short_steps"));
  define<&vote<ArrayFace>>(m, "vote", arg("heatmap"), arg("short_range"), arg("target"), arg("node_label"), options,
                           arg("things"), arg("stride"), arg("size"), arg("vote_cell"), arg("short_weight"),
                           arg("long_weight"), arg("all_voters"));
  define<&peaks<ArrayFace>>(m, "peaks", arg("votes"), options, arg("stride"), arg("nodes"), arg("vote_cell"),
                            arg("radius"), arg("threshold"), arg("max_candidates"));
  define<&trace<ArrayFace>>(m, "trace", arg("position"), arg("candidate"), arg("count"), arg("middle_range"),
                            arg("short_range"), options, arg("edges"), arg("stride"), arg("size"), arg("middle_steps"));
  define<&rescore<ArrayFace>>(m, "rescore", arg("keypoints"), arg("count"), arg("votes"), arg("heatmap"), options,
                              arg("stride"), arg("vote_cell"), arg("radius"), arg("kappa"), arg("oks_cell"));
  define<&binding::select<ArrayFace>>(m, "select", arg("candidate"), arg("count"), arg("keypoints"),
                                      arg("keypoint_score"), arg("score"), options, arg("instance_threshold"),
                                      arg("nms_radius"), arg("nms_radius_min"), arg("nms_relative"), arg("box_iou"),
                                      arg("max_instances"));
  define<&assign<ArrayFace>>(m, "assign", arg("target"), arg("node_label"), arg("label"), arg("keypoints"),
                             arg("count"), options, arg("things"), arg("stride"), arg("max_distance"));
  define<&merge<ArrayFace>>(m, "merge", arg("label"), arg("instance"), arg("node_label"), arg("node_instance"),
                            arg("node_distance"), arg("keypoints"), arg("count"), options, arg("things"),
                            arg("num_classes"), arg("radius"), arg("fit_area"), arg("majority_all"));
}

}  // namespace

PYBIND11_MODULE(_numpy, m) {
  m.doc() = "The fusion for NumPy arrays; deeperlab.fuse is its public face.";
  m.def("fuse", &Threaded<&fuse<ArrayFace>>::call, "All arguments as torch.ops.deeperlab.fuse, then num_threads.");
  m.def("simd", [] { return simd_names[int(simd())]; }, "The form of the stages that this process runs.");
  register_stages(m);
  register_metrics(m);
  register_draw(m);
}

}  // namespace deeperlab::binding
