#include "core/variant/timing.h"

#include <gmock/gmock.h>

#include "tests/testing/status_matchers.h"
#include "tests/unit/passes/quantize_test_util.h"
#include "tests/unit/variant/variant_test_util.h"

namespace halftone {
namespace {

using ::testing::DoubleEq;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::IsEmpty;
using ::testing::Pair;

// Says that a run takes these steps, whatever the input; the odd run out is ten times as slow.
RunnableGraph Scripted(std::vector<std::pair<std::string, double>> steps) {
  RunnableGraph graph;
  graph.profile =
      [steps, runs = 0](absl::Span<const Tensor>) mutable -> absl::StatusOr<std::vector<StepInfo>> {
    const double disturbance = ++runs % 3 == 2 ? 10 : 1;
    std::vector<StepInfo> out;
    for (const auto& [node, seconds] : steps) {
      out.push_back({.node = node, .seconds = seconds * disturbance});
    }
    return out;
  };
  return graph;
}
auto Takes(double fp32, double variant) {
  return AllOf(Field(&LayerSeconds::fp32, DoubleEq(fp32)),
               Field(&LayerSeconds::variant, DoubleEq(variant)));
}

// x → MatMul a → Relu r → MatMul b → Softmax s; in the variant each MatMul reads a pair of
// QuantizeLinear and DequantizeLinear, and so does the Softmax.
Graph Net(bool quantized) {
  GraphMaker m;
  Value* x = m.Input("x", {1, 4});
  const auto pair = [&](const std::string& name, Value* v) {
    if (!quantized) return v;
    Value* q = m.Node("QuantizeLinear", name + "q", {v}, {1, 4});
    return m.Node("DequantizeLinear", name + "d", {q}, {1, 4});
  };
  Value* a =
      m.Node("MatMul", "a", {pair("a", x), m.Constant("wa", RandomTensor({4, 4}, 1))}, {1, 4});
  Value* r = m.Node("Relu", "r", {a}, {1, 4});
  Value* b =
      m.Node("MatMul", "b", {pair("b", r), m.Constant("wb", RandomTensor({4, 4}, 2))}, {1, 4});
  m.Output(m.Node("Softmax", "s", {pair("s", b)}, {1, 4}));
  return std::move(m.graph());
}

TEST(MeasureLayerTimes, WhatIsThereForALayerBelongsToIt) {
  const Graph fp32 = Net(false), variant = Net(true);
  // "x" and "r_value" are no nodes: conversions of what comes next.
  const RunnableGraph plain = Scripted({{"x", 1}, {"n_a", 2}, {"n_r", 4}, {"n_b", 8}, {"n_s", 16}});
  const RunnableGraph narrow = Scripted({{"n_aq", 1},
                                         {"n_a", 2},
                                         {"n_r", 4},
                                         {"n_bq", 8},
                                         {"r_value", 16},
                                         {"n_b", 32},
                                         {"n_sq", 64},
                                         {"n_sd", 128},
                                         {"n_s", 256}});
  HT_ASSERT_OK_AND_ASSIGN(const auto times,
                          MeasureLayerTimes({fp32, plain}, {variant, narrow}, {"n_a", "n_b"}, {}));
  EXPECT_THAT(times, ElementsAre(Pair("n_a", Takes(1 + 2, 1 + 2)),
                                 Pair("n_b", Takes(8, 8 + 16 + 32 + 64 + 128))));
}

TEST(MeasureLayerTimes, NothingWhereARunnerKnowsNoSteps) {
  const Graph fp32 = Net(false);
  HT_ASSERT_OK_AND_ASSIGN(const RunnableGraph reference, ReferenceRunner()(fp32.Clone()));
  HT_ASSERT_OK_AND_ASSIGN(const auto times, MeasureLayerTimes({fp32, reference}, {fp32, reference},
                                                              {"n_a", "n_b"}, {}));
  EXPECT_THAT(times, IsEmpty());
}

TEST(MeasureLayerTimes, PlansKnowTheirSteps) {
  const Graph fp32 = ClassifierNet();
  HT_ASSERT_OK_AND_ASSIGN(const RunnableGraph plan, PlanRunner(1)(fp32.Clone()));
  const SampleSet set = RealSamples(1);
  HT_ASSERT_OK_AND_ASSIGN(const auto times, MeasureLayerTimes({fp32, plan}, {fp32, plan},
                                                              {"n_c1", "n_y"}, set.samples[0]));
  ASSERT_EQ(times.size(), 2);
  for (const auto& [layer, seconds] : times) {
    EXPECT_GT(seconds.fp32, 0) << layer;
    EXPECT_GT(seconds.variant, 0) << layer;
  }
}

}  // namespace
}  // namespace halftone
