// Small fp32 graphs with names, for tests of the quantizing passes.
#ifndef HALFTONE_TESTS_UNIT_PASSES_QUANTIZE_TEST_UTIL_H_
#define HALFTONE_TESTS_UNIT_PASSES_QUANTIZE_TEST_UTIL_H_

#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/graph/graph.h"
#include "core/tensor/tensor.h"

namespace halftone {

inline Tensor RandomTensor(absl::Span<const int64_t> shape, int seed, float scale = 1) {
  std::mt19937 rng(static_cast<unsigned>(seed));
  Tensor t = Tensor::Create(DataType::kF32, shape).value();
  // Irwin-Hall: the same numbers with every standard library.
  for (float& v : t.mutable_data<float>()) {
    float sum = 0;
    for (int i = 0; i < 4; ++i) sum += static_cast<float>(rng() % 65536) / 65536.0f - 0.5f;
    v = scale * sum;
  }
  return t;
}

// Builds graphs of f32 values whose types are known (shapes as given).
class GraphMaker {
 public:
  explicit GraphMaker(int opset = 17) : graph_("test") { graph_.opsets()[""] = opset; }

  Value* Input(const std::string& name, const Shape& shape) {
    return graph_.AddInput(name, {DataType::kF32, Symbolic(shape)});
  }
  Value* Constant(const std::string& name, Tensor t) {
    return graph_.AddConstant(name, std::move(t));
  }
  // A node "n_<out>" that makes the f32 value `out` of `shape`.
  Value* Node(const std::string& op, const std::string& out, std::vector<Value*> inputs,
              const Shape& shape, Attributes attributes = {}) {
    halftone::Node* n = graph_.AddNode({.op = op,
                                        .name = "n_" + out,
                                        .inputs = std::move(inputs),
                                        .outputs = {out},
                                        .attributes = std::move(attributes)});
    n->output(0)->set_type({DataType::kF32, Symbolic(shape)});
    return n->output(0);
  }
  // A 1x1 convolution with random weights "<out>_w" from `from` to `to` channels, 4x4 pixels.
  Value* Conv(const std::string& out, Value* x, int64_t from, int64_t to) {
    Value* w = Constant(out + "_w", RandomTensor({to, from, 1, 1}, static_cast<int>(seed_++)));
    return Node("Conv", out, {x, w}, {1, to, 4, 4});
  }
  void Output(Value* v) { graph_.AddOutput(v); }
  Graph& graph() { return graph_; }

 private:
  Graph graph_;
  int seed_ = 1;
};

}  // namespace halftone

#endif  // HALFTONE_TESTS_UNIT_PASSES_QUANTIZE_TEST_UTIL_H_
