#include "core/passes/quantize_graph.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "core/ops/evaluate.h"
#include "core/quant/error_stats.h"
#include "tests/testing/status_matchers.h"
#include "tests/unit/passes/quantize_test_util.h"

namespace halftone {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

QuantSpec Spec(const std::string& text) { return QuantSpec::Parse(text).value(); }

// Two convolutions with bias and Relu, then a Gemm.
Graph SmallNet(float weight_scale = 1) {
  GraphMaker m;
  Value* x = m.Input("x", {1, 3, 4, 4});
  Value* w1 = m.Constant("w1", RandomTensor({8, 3, 3, 3}, 1, weight_scale));
  Value* b1 = m.Constant("b1", RandomTensor({8}, 2));
  Value* c1 =
      m.Node("Conv", "c1", {x, w1, b1}, {1, 8, 4, 4}, {{"pads", std::vector<int64_t>{1, 1, 1, 1}}});
  Value* r1 = m.Node("Relu", "r1", {c1}, {1, 8, 4, 4});
  Value* flat = m.Node("Flatten", "flat", {r1}, {1, 128});
  Value* w2 = m.Constant("w2", RandomTensor({128, 10}, 3));
  Value* y = m.Node("Gemm", "y", {flat, w2, m.Constant("b2", RandomTensor({10}, 4))}, {1, 10});
  m.Output(y);
  return std::move(m.graph());
}
const RangeMap kRanges = {{"x", {-2, 2}}, {"r1", {0, 12}}, {"flat", {0, 12}}};

Tensor RunOnce(const Graph& graph, const Tensor& x) { return EvaluateGraph(graph, {x}).value()[0]; }

int Count(const Graph& graph, const std::string& op) {
  return static_cast<int>(std::count_if(graph.nodes().begin(), graph.nodes().end(),
                                        [&](const Node* n) { return n->op() == op; }));
}

struct PrecisionCase {
  std::string spec;
  double min_sqnr_db;  // what the format leaves, with about 5 dB of room
};
class QuantizeGraphPrecision : public ::testing::TestWithParam<PrecisionCase> {};

TEST_P(QuantizeGraphPrecision, StaysCloseToFp32) {
  const Graph fp32 = SmallNet();
  Graph graph = fp32.Clone();
  const QuantSpec spec = Spec(GetParam().spec);
  HT_ASSERT_OK(PrepareForQuantization(graph, spec));
  HT_ASSERT_OK(QuantizeGraph(graph, spec, {.ranges = &kRanges}));
  HT_ASSERT_OK(InferShapes(graph, {.fold_elements = 0}));
  ErrorStats stats;
  for (int seed = 10; seed < 20; ++seed) {
    const Tensor x = RandomTensor({1, 3, 4, 4}, seed);
    stats.Add(RunOnce(fp32, x).data<float>(), RunOnce(graph, x).data<float>());
  }
  EXPECT_GT(stats.sqnr_db(), GetParam().min_sqnr_db);
  EXPECT_LT(stats.sqnr_db(), kMaxSqnrDb) << "nothing was rounded";
}
INSTANTIATE_TEST_SUITE_P(All, QuantizeGraphPrecision,
                         ::testing::Values(PrecisionCase{"fp16", 65}, PrecisionCase{"bf16", 48},
                                           PrecisionCase{"int8/per-tensor/static", 30},
                                           PrecisionCase{"int8/per-channel/static", 30},
                                           PrecisionCase{"int8/static/act=int8", 28},
                                           // What is left is the error of the weights.
                                           PrecisionCase{"int8/static/act=int16", 36},
                                           PrecisionCase{"int8/static/act=uint16", 36},
                                           PrecisionCase{"int8/per-channel/dynamic", 30},
                                           PrecisionCase{"int8/per-channel/dynamic-per-token", 30},
                                           PrecisionCase{"int8/per-channel/weight-only", 36},
                                           PrecisionCase{"int8/per-tensor/weight-only/affine",
                                                         34}));

TEST(QuantizeGraph, PerTokenScalesAreForProductsOfRows) {
  Graph graph = SmallNet();
  HT_ASSERT_OK(QuantizeGraph(graph, Spec("int8/dynamic-per-token"), {}));
  const Node* conv = graph.FindValue("c1")->producer();
  EXPECT_EQ(conv->input(0)->producer()->op(), "DequantizeLinear");
  EXPECT_EQ(Count(graph, "DynamicQuantizeLinear"), 1);
  const Node* gemm = graph.FindValue("y")->producer();
  EXPECT_EQ(gemm->input(0)->producer()->op(), "DequantizeRows");
  EXPECT_EQ(Count(graph, "DynamicQuantizeRows"), 1);
  EXPECT_EQ(Concrete(graph.FindValue("flat_scale")->type().shape), Shape({1, 1}));
  EXPECT_EQ(graph.opset("halftone"), 1);
}

// Rows of a transposed operand are not what the product sums over.
TEST(QuantizeGraph, PerTokenScalesLeaveTransposedRowsAlone) {
  GraphMaker m;
  Value* x = m.Input("x", {16, 4});
  Value* w = m.Constant("w", RandomTensor({16, 8}, 1));
  m.Output(m.Node("Gemm", "y", {x, w}, {4, 8}, {{"transA", int64_t{1}}}));
  HT_ASSERT_OK(QuantizeGraph(m.graph(), Spec("int8/dynamic-per-token"), {}));
  EXPECT_EQ(Count(m.graph(), "DynamicQuantizeLinear"), 1);
  EXPECT_EQ(Count(m.graph(), "DynamicQuantizeRows"), 0);
}

TEST(QuantizeGraph, StaticHasOneQuantizeDequantizePairPerActivation) {
  Graph graph = SmallNet();
  const QuantSpec spec = Spec("int8/per-channel/static");
  HT_ASSERT_OK_AND_ASSIGN(const auto choices, QuantizeGraph(graph, spec, {.ranges = &kRanges}));
  EXPECT_EQ(Count(graph, "QuantizeLinear"), 3);    // x, r1, flat
  EXPECT_EQ(Count(graph, "DequantizeLinear"), 5);  // and two weights
  ASSERT_EQ(choices.size(), 2u);
  EXPECT_EQ(choices[0].output, "r1");  // compared behind the activation
  EXPECT_EQ(choices[0].weight_bytes, 8 * 27 + 8 * 4 + 8);
  EXPECT_EQ(choices[1].output, "y");
  EXPECT_EQ(graph.FindValue("b1")->constant().type(), DataType::kF32);
}

TEST(QuantizeGraph, HalfWeightsAreStoredNarrowAndCast) {
  Graph graph = SmallNet();
  HT_ASSERT_OK(QuantizeGraph(graph, Spec("fp16"), {}));
  EXPECT_EQ(graph.FindValue("w1_f16")->constant().type(), DataType::kF16);
  EXPECT_EQ(Count(graph, "Cast"), 2);
  EXPECT_EQ(graph.FindValue("w1"), nullptr);
}

TEST(QuantizeGraph, AWeightBeyondF16KeepsItsNodeInF32AndSaysSo) {
  Graph graph = SmallNet(/*weight_scale=*/1e6f);
  HT_ASSERT_OK_AND_ASSIGN(const auto choices, QuantizeGraph(graph, Spec("fp16"), {}));
  EXPECT_EQ(choices[0].format.type, WeightType::kF32);
  EXPECT_THAT(choices[0].reason, HasSubstr("65504"));
  EXPECT_EQ(choices[1].format.type, WeightType::kF16);
  EXPECT_NE(graph.FindValue("w1"), nullptr);
}

TEST(QuantizeGraph, OverridesChooseThePrecisionOfSingleNodes) {
  Graph graph = SmallNet();
  const QuantSpec spec = Spec("int8/per-channel/weight-only;node=n_c1=fp32;op=Gemm=bf16");
  HT_ASSERT_OK_AND_ASSIGN(const auto choices, QuantizeGraph(graph, spec, {}));
  EXPECT_EQ(choices[0].format.type, WeightType::kF32);
  EXPECT_THAT(choices[0].reason, HasSubstr("override"));
  EXPECT_EQ(choices[1].format.type, WeightType::kBF16);
}

TEST(QuantizeGraph, ReducedWeightsApplyToIntegerArithmeticOnly) {
  const auto largest = [](const std::string& text) {
    Graph graph = SmallNet();
    HT_EXPECT_OK(
        QuantizeGraph(graph, Spec(text), {.reduce_weight_range = true, .ranges = &kRanges}));
    int most = 0;
    for (const int8_t q : graph.FindValue("w1_quantized")->constant().data<int8_t>()) {
      most = std::max(most, std::abs(int{q}));
    }
    return most;
  };
  EXPECT_EQ(largest("int8/per-channel/static"), 63);
  EXPECT_EQ(largest("int8/per-channel/dynamic"), 63);
  EXPECT_EQ(largest("int8/per-channel/weight-only"), 127);
}

TEST(QuantizeGraph, NothingToQuantizeIsAnErrorThatSaysWhy) {
  GraphMaker m;
  Value* a = m.Input("a", {4, 4});
  m.Output(m.Node("MatMul", "y", {a, m.Input("b", {4, 4})}, {4, 4}));
  EXPECT_THAT(QuantizeGraph(m.graph(), Spec("fp16"), {}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("1 x MatMul: both operands are computed")));
  GraphMaker none;
  none.Output(none.Node("Relu", "y", {none.Input("a", {4})}, {4}));
  EXPECT_THAT(QuantizeGraph(none.graph(), Spec("bf16"), {}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("no Conv, MatMul")));
}

TEST(QuantizeGraph, StaticWithoutRangesIsRefused) {
  Graph graph = SmallNet();
  EXPECT_THAT(QuantizeGraph(graph, Spec("int8/per-channel/static"), {}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("ranges")));
}

TEST(QuantizeGraph, ANodeWhoseInputWasNeverSeenStaysFloat) {
  Graph graph = SmallNet();
  const RangeMap some = {{"x", {-2, 2}}};
  HT_ASSERT_OK_AND_ASSIGN(const auto choices,
                          QuantizeGraph(graph, Spec("int8/per-channel/static"), {.ranges = &some}));
  EXPECT_EQ(choices[0].format.type, WeightType::kI8);
  EXPECT_THAT(choices[1].reason, HasSubstr("calibration saw no finite value"));
  EXPECT_NE(graph.FindValue("w2"), nullptr);
}

TEST(QuantizeGraph, AnEmbeddingIsGatheredNarrowAndWidenedAfterwards) {
  GraphMaker m;
  Value* ids = m.graph().AddInput("ids", {DataType::kI64, Dims{3}});
  Value* table = m.Constant("table", RandomTensor({16, 4}, 1));
  m.Output(m.Node("Gather", "y", {table, ids}, {3, 4}));
  Graph fp32 = m.graph().Clone();
  HT_ASSERT_OK(QuantizeGraph(m.graph(), Spec("fp16"), {}));
  HT_ASSERT_OK(InferShapes(m.graph(), {.fold_elements = 0}));
  EXPECT_EQ(m.graph().outputs()[0]->name(), "y");
  EXPECT_EQ(m.graph().FindValue("y_narrow")->type().type, DataType::kF16);
  const Tensor at = Tensor::Of<int64_t>({3}, {2, 0, 15});
  const Tensor got = EvaluateGraph(m.graph(), {at}).value()[0];
  const Tensor want = EvaluateGraph(fp32, {at}).value()[0];
  for (int i = 0; i < 12; ++i) {
    EXPECT_EQ(got.data<float>()[i], static_cast<float>(Float16(want.data<float>()[i])));
  }
}

TEST(QuantizeGraph, ATableOfRowsHasAScaleForEachRow) {
  const auto net = [](int64_t rows, int64_t axis) {
    GraphMaker m;
    Value* ids = m.graph().AddInput("ids", {DataType::kI64, Dims{2, 2}});
    Tensor table = RandomTensor({rows, 64}, 1);
    for (int i = 0; i < 64; ++i) table.mutable_data<float>()[2 * 64 + i] *= 100;  // one loud row
    const Shape shape = axis == 0 ? Shape{2, 2, 64} : Shape{rows, 2, 2};
    m.Output(m.Node("Gather", "y", {m.Constant("table", table), ids}, shape, {{"axis", axis}}));
    return std::move(m.graph());
  };
  const Tensor at = Tensor::Of<int64_t>({2, 2}, {2, 0, 99, -1});
  for (const char* spec : {"int8/per-channel/dynamic", "int4", "int16", "ternary", "uint8"}) {
    SCOPED_TRACE(spec);
    const Graph fp32 = net(100, 0);
    Graph graph = fp32.Clone();
    HT_ASSERT_OK(PrepareForQuantization(graph, Spec(spec)));
    HT_ASSERT_OK_AND_ASSIGN(const auto choices, QuantizeGraph(graph, Spec(spec), {}));
    ASSERT_EQ(choices.size(), 1);
    const int64_t width = std::string(spec) == "int16" ? 2 : 1;
    EXPECT_EQ(choices[0].weight_bytes, 100 * 64 * width + 100 * 4);
    HT_ASSERT_OK(InferShapes(graph, {.fold_elements = 0}));
    EXPECT_EQ(graph.outputs()[0]->name(), "y");
    EXPECT_EQ(graph.FindValue("table_quantized")->type().type,
              width == 2 ? DataType::kI16 : DataType::kI8);
    HT_ASSERT_OK_AND_ASSIGN(const std::vector<Tensor> got, EvaluateGraph(graph, {at}));
    HT_ASSERT_OK_AND_ASSIGN(const std::vector<Tensor> want, EvaluateGraph(fp32, {at}));
    ASSERT_EQ(got[0].shape(), want[0].shape());
    for (int row = 0; row < 4; ++row) {
      float largest = 0;
      for (int i = 0; i < 64; ++i) {
        largest = std::max(largest, std::abs(want[0].data<float>()[row * 64 + i]));
      }
      const float step = largest / (width == 2 ? 32767 : 127);
      for (int i = 0; i < 64; ++i) {
        EXPECT_NEAR(got[0].data<float>()[row * 64 + i], want[0].data<float>()[row * 64 + i],
                    step * 0.501f);
      }
    }
  }
  // Small tables, and choosing columns: as they are.
  for (Graph& graph : std::array{net(10, 0), net(100, 1)}) {
    EXPECT_THAT(QuantizeGraph(graph, Spec("int4"), {}).status(),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("no node would change")));
  }
}

TEST(QuantizeGraph, EqualInputsGiveEqualGraphs) {
  const QuantSpec spec = Spec("int8/per-channel/static");
  Graph a = SmallNet(), b = SmallNet();
  HT_ASSERT_OK(QuantizeGraph(a, spec, {.ranges = &kRanges}));
  HT_ASSERT_OK(QuantizeGraph(b, spec, {.ranges = &kRanges}));
  EXPECT_EQ(a.Dump(), b.Dump());
}

TEST(ValuesToCalibrate, AreTheQuantizedActivations) {
  EXPECT_THAT(ValuesToCalibrate(SmallNet(), Spec("int8/per-channel/static")),
              ::testing::ElementsAre("flat", "r1", "x"));
  EXPECT_THAT(ValuesToCalibrate(SmallNet(), Spec("int8/per-channel/dynamic")), IsEmpty());
}

TEST(PrepareForQuantization, RaisesOldOpsets) {
  GraphMaker m(/*opset=*/9);
  m.Output(m.Conv("c", m.Input("x", {1, 3, 4, 4}), 3, 4));
  HT_ASSERT_OK(PrepareForQuantization(m.graph(), Spec("int8/per-channel/dynamic")));
  EXPECT_GE(m.graph().opset(), 13);
}

}  // namespace
}  // namespace halftone
