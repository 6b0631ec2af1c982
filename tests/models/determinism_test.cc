// Equal model, spec, samples, version and ISA class give equal bytes, whatever the thread count.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/ascii.h"
#include "core/base/sha256.h"
#include "core/onnx/export.h"
#include "core/ops/evaluate.h"
#include "core/passes/pass.h"
#include "core/variant/build_variant.h"
#include "tests/testing/random_tensor.h"
#include "tests/testing/status_matchers.h"
#include "tests/unit/passes/quantize_test_util.h"

namespace halftone {
namespace {

// Convolutions (dense, depthwise, 1x1) large enough for teams of threads, a residual addition,
// LayerNormalization in front of a product, and a classifier.
Graph Net() {
  GraphMaker m;
  const Attributes pads = {{"pads", std::vector<int64_t>{1, 1, 1, 1}}};
  Value* x = m.Input("x", {1, 3, 24, 24});
  Value* a = m.Node("Conv", "a", {x, m.Constant("wa", RandomF32({16, 3, 3, 3}, 1))},
                    {1, 16, 24, 24}, pads);
  Value* r = m.Node("Relu", "r", {a}, {1, 16, 24, 24});
  Attributes depthwise = pads;
  depthwise.Set("group", int64_t{16});
  Value* d = m.Node("Conv", "d", {r, m.Constant("wd", RandomF32({16, 1, 3, 3}, 2))},
                    {1, 16, 24, 24}, depthwise);
  Value* p =
      m.Node("Conv", "p", {d, m.Constant("wp", RandomF32({16, 16, 1, 1}, 3))}, {1, 16, 24, 24});
  Value* s = m.Node("Add", "s", {p, r}, {1, 16, 24, 24});
  // A long sum for few results: what teams split into parts.
  Value* flat = m.Node("Flatten", "f", {s}, {1, 9216});
  Value* h = m.Node("MatMul", "h", {flat, m.Constant("wh", RandomF32({9216, 16}, 7))}, {1, 16});
  Value* n = m.Node("LayerNormalization", "n",
                    {h, m.Constant("wn", RandomF32({16}, 4)), m.Constant("bn", RandomF32({16}, 5))},
                    {1, 16});
  m.Output(m.Node("MatMul", "y", {n, m.Constant("wy", RandomF32({16, 64}, 6))}, {1, 64}));
  return std::move(m.graph());
}

std::string DigestOf(const Graph& graph, const std::string& spec, int threads) {
  SampleSet set{.name = "s", .digest = "d"};
  for (int i = 0; i < 6; ++i) set.samples.push_back({RandomF32({1, 3, 24, 24}, 100 + i)});
  const auto built = BuildVariant(graph, QuantSpec::Parse(spec).value(),
                                  {.threads = threads, .samples = &set, .measure_latency = false});
  if (!built.ok()) return std::string(built.status().message());
  const auto bytes = ExportOnnxInline(built->graph);
  return bytes.ok() ? Sha256Hex(*bytes) : std::string(bytes.status().message());
}

class Determinism : public ::testing::TestWithParam<const char*> {};

TEST_P(Determinism, OneThreadAndTwoGiveEqualBytes) {
  Graph graph = Net();
  HT_ASSERT_OK(graph.Verify());
  HT_ASSERT_OK(InferShapes(graph));
  const std::string one = DigestOf(graph, GetParam(), 1);
  EXPECT_EQ(one.size(), 64) << one;
  EXPECT_EQ(DigestOf(graph, GetParam(), 2), one);
  EXPECT_EQ(DigestOf(graph, GetParam(), 1), one);
}

INSTANTIATE_TEST_SUITE_P(
    Specs, Determinism,
    ::testing::Values("fp16", "int8/per-channel/dynamic", "int8/per-channel/static",
                      "int8/per-channel/static/entropy", "int8/per-channel/static/better",
                      "int8/per-channel/static/best", "int4", "int4/best", "ternary/best"),
    [](const auto& info) {
      std::string name = info.param;
      for (char& c : name) {
        if (!absl::ascii_isalnum(static_cast<unsigned char>(c))) c = '_';
      }
      return name;
    });

}  // namespace
}  // namespace halftone
