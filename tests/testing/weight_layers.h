// Layers with constant weights in every form that quantization knows, and specs for all formats.
#ifndef HALFTONE_TESTS_TESTING_WEIGHT_LAYERS_H_
#define HALFTONE_TESTS_TESTING_WEIGHT_LAYERS_H_

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "core/graph/graph.h"
#include "core/ops/evaluate.h"
#include "core/tensor/tensor.h"
#include "tests/testing/random_tensor.h"

namespace halftone {

struct WeightLayer {
  std::string name, op;
  Shape x, w;
  Attributes attributes = {};
};

inline std::vector<WeightLayer> WeightLayers() {
  using Ints = std::vector<int64_t>;
  return {
      {"Conv", "Conv", {2, 20, 7, 6}, {24, 20, 3, 3}, {{"pads", Ints{1, 1, 1, 1}}}},
      {"ConvPointwise", "Conv", {1, 40, 5, 5}, {33, 40, 1, 1}},
      {"ConvOneChannel", "Conv", {1, 1, 12, 12}, {6, 1, 5, 5}},
      {"ConvGrouped", "Conv", {1, 16, 6, 6}, {12, 8, 3, 3}, {{"group", int64_t{2}}}},
      {"ConvDepthwise", "Conv", {1, 20, 8, 8}, {20, 1, 3, 3}, {{"group", int64_t{20}}}},
      {"Conv1d", "Conv", {2, 18, 15}, {10, 18, 4}, {{"strides", Ints{2}}}},
      {"ConvTranspose", "ConvTranspose", {1, 18, 5, 5}, {18, 12, 3, 3}, {{"strides", Ints{2, 2}}}},
      {"ConvTransposeGrouped",
       "ConvTranspose",
       {1, 8, 5, 5},
       {8, 6, 2, 3},
       {{"group", int64_t{2}}}},
      {"MatMul", "MatMul", {3, 70}, {70, 37}},
      {"MatMulRow", "MatMul", {1, 2, 130}, {130, 48}},
      {"MatMulWide", "MatMul", {18, 96}, {96, 64}},
      {"Gemm", "Gemm", {4, 65}, {65, 30}},
      {"GemmTransB", "Gemm", {5, 66}, {31, 66}, {{"transB", int64_t{1}}}},
  };
}

inline bool IsMatrixLayer(const WeightLayer& layer) {
  return layer.op == "MatMul" || layer.op == "Gemm";
}
// What one output sums over.
inline int64_t SummedOver(const WeightLayer& layer) {
  if (layer.op == "MatMul" || layer.op == "Gemm") return layer.x.back();
  const int64_t groups = layer.attributes.Int("group", 1);
  const bool transposed = layer.op == "ConvTranspose";
  const int64_t outputs = transposed ? layer.w[1] * groups : layer.w[0];
  return ElementCount(layer.w) / outputs;
}

// x → layer (→ Add of a bias → Relu), all typed; weights "w" differ in size from place to place.
inline Graph LayerGraph(const WeightLayer& layer, bool with_tail = false) {
  Graph g("layer");
  g.opsets()[""] = 17;
  Value* x = g.AddInput("x", {DataType::kF32, Symbolic(layer.x)});
  Tensor w = RandomF32(layer.w, 7, -1, 1);
  const auto values = w.mutable_data<float>();
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] *= 0.2f + static_cast<float>(i * 7919 % 31) / 31;
  }
  Node* node = g.AddNode({.op = layer.op,
                          .name = "layer",
                          .inputs = {x, g.AddConstant("w", std::move(w))},
                          .outputs = {"y"},
                          .attributes = layer.attributes});
  CHECK_OK(InferShapes(g));
  Value* y = node->output(0);
  if (with_tail) {
    const Shape shape = *Concrete(y->type().shape);
    const size_t channel = IsMatrixLayer(layer) ? shape.size() - 1 : 1;
    Shape bias(shape.size(), 1);
    bias[channel] = shape[channel];
    Value* b = g.AddConstant("b", RandomF32(bias, 5));
    y = g.AddNode({.op = "Add", .name = "bias", .inputs = {y, b}, .outputs = {"s"}})->output(0);
    y = g.AddNode({.op = "Relu", .name = "relu", .inputs = {y}, .outputs = {"z"}})->output(0);
  }
  g.AddOutput(y);
  CHECK_OK(InferShapes(g));
  return g;
}

// Every integer type × granularity × scheme that there is, weight-only.
inline std::vector<std::string> WeightSpecs() {
  std::vector<std::string> out;
  for (const char* type : {"int16", "int8", "uint8", "int4", "uint4", "ternary", "binary"}) {
    for (const char* granularity :
         {"per-tensor", "per-channel", "per-channel-axis-0", "per-channel-axis-1", "per-group-1",
          "per-group-16", "per-group-24", "per-group-32", "per-group-4096"}) {
      for (const char* scheme : {"symmetric", "affine"}) {
        const std::string name = type;
        if ((name == "ternary" || name == "binary") && scheme == std::string("affine")) continue;
        out.push_back(absl::StrCat(type, "/", granularity, "/weight-only/", scheme));
      }
    }
  }
  return out;
}

}  // namespace halftone

#endif  // HALFTONE_TESTS_TESTING_WEIGHT_LAYERS_H_
