// Weights of one and two bits, and rows quantized on the fly, in files: functions that others run,
// one node each for us.
#include "core/onnx/own_functions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <onnx/checker.h>
#include <onnx/inliner/inliner.h>

#include <string>
#include <vector>

#include "core/onnx/export.h"
#include "core/onnx/import.h"
#include "core/ops/evaluate.h"
#include "core/ops/row_quant.h"
#include "core/ops/unpack.h"
#include "tests/testing/onnx_text.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

// 3x3 weights of each kind behind a scale.
Graph TwoKinds() {
  Graph g("net");
  g.opsets()[""] = 13;
  g.opsets()[std::string(kHalftoneDomain)] = kHalftoneOpset;
  Value* x = g.AddInput("x", {DataType::kF32, Symbolic(Shape{2, 3})});
  const auto weights = [&](absl::string_view op, const Tensor& packed) {
    Node* unpack = g.AddNode({.op = std::string(op),
                              .domain = std::string(kHalftoneDomain),
                              .name = std::string(op),
                              .inputs = {g.AddConstant("packed", packed)},
                              .outputs = {g.UniqueName("codes")},
                              .attributes = {{"shape", std::vector<int64_t>{3, 3}}}});
    Value* scale = g.AddConstant("scale", Tensor::Of<float>({3}, {1, 2, 4}));
    return g
        .AddNode({.op = "DequantizeLinear",
                  .name = g.UniqueName("dq"),
                  .inputs = {unpack->output(0), scale},
                  .outputs = {g.UniqueName("w")},
                  .attributes = {{"axis", int64_t{1}}}})
        ->output(0);
  };
  const auto product = [&](Value* a, Value* w) {
    return g
        .AddNode({.op = "MatMul",
                  .name = g.UniqueName("mm"),
                  .inputs = {a, w},
                  .outputs = {g.UniqueName("y")}})
        ->output(0);
  };
  Value* h = product(x, weights(kUnpackTernary, Tensor::Of<uint8_t>({3}, {0xd3, 0x71, 0x01})));
  g.AddOutput(product(h, weights(kUnpackBinary, Tensor::Of<uint8_t>({2}, {0x5a, 0x01}))));
  CHECK_OK(InferShapes(g));
  return g;
}

onnx::ModelProto Exported(const Graph& g) {
  const absl::StatusOr<std::string> bytes = ExportOnnxInline(g);
  CHECK_OK(bytes.status());
  onnx::ModelProto model;
  CHECK(model.ParseFromString(*bytes));
  return model;
}

const std::vector<Tensor> kInput = {Tensor::Of<float>({2, 3}, {1, 2, 3, -4, 5, 0.5f})};

TEST(OwnFunctions, AreOneNodeForUs) {
  const Graph g = TwoKinds();
  HT_ASSERT_OK_AND_ASSIGN(const std::string bytes, ExportOnnxInline(g));
  HT_ASSERT_OK_AND_ASSIGN(const Graph back, ImportOnnx(AsBytes(bytes)));
  EXPECT_EQ(back.Dump(), g.Dump());
}

TEST(OwnFunctions, PassTheOnnxChecker) {
  const onnx::ModelProto model = Exported(TwoKinds());
  EXPECT_EQ(model.functions_size(), 2);
  EXPECT_NO_THROW(onnx::checker::check_model(model, /*full_check=*/true));
}

// What a runtime does that knows nothing of us: it takes the bodies.
TEST(OwnFunctions, BodiesComputeWhatOurOperatorsDo) {
  const Graph g = TwoKinds();
  HT_ASSERT_OK_AND_ASSIGN(const auto want, EvaluateGraph(g, kInput));
  onnx::ModelProto model = Exported(g);
  onnx::inliner::InlineLocalFunctions(model);
  ASSERT_EQ(model.functions_size(), 0);
  std::string bytes;
  model.SerializeToString(&bytes);
  HT_ASSERT_OK_AND_ASSIGN(const Graph standard, ImportOnnx(AsBytes(bytes)));
  for (const Node* node : standard.nodes()) EXPECT_EQ(node->domain(), "");
  HT_ASSERT_OK_AND_ASSIGN(const auto got, EvaluateGraph(standard, kInput));
  EXPECT_EQ(got[0].bytes(), want[0].bytes());
}

// Rows in opsets with axes as an attribute and as an input.
Graph Rows(int opset) {
  Graph g("net");
  g.opsets()[""] = opset;
  g.opsets()[std::string(kHalftoneDomain)] = kHalftoneOpset;
  const std::string domain(kHalftoneDomain);
  Value* x = g.AddInput("x", {DataType::kF32, Symbolic(Shape{4, 3})});
  Node* q = g.AddNode({.op = std::string(kDynamicQuantizeRows),
                       .domain = domain,
                       .name = "quantize",
                       .inputs = {x},
                       .outputs = {"q", "s", "z"}});
  g.AddOutput(g.AddNode({.op = std::string(kDequantizeRows),
                         .domain = domain,
                         .name = "dequantize",
                         .inputs = {q->output(0), q->output(1), q->output(2)},
                         .outputs = {"y"}})
                  ->output(0));
  g.AddOutput(q->output(0));
  CHECK_OK(InferShapes(g));
  return g;
}

TEST(OwnFunctions, RowsAreTheSameForUsAndForOthers) {
  const Tensor x =
      Tensor::Of<float>({4, 3}, {1, 2, 3, -400, 500, 0.5f, 0, 0, 0, -0.001f, -0.002f, -0.003f});
  for (const int opset : {13, 18, 21}) {
    const Graph g = Rows(opset);
    HT_ASSERT_OK_AND_ASSIGN(const auto want, EvaluateGraph(g, {x}));
    onnx::ModelProto model = Exported(g);
    EXPECT_NO_THROW(onnx::checker::check_model(model, /*full_check=*/true));
    HT_ASSERT_OK_AND_ASSIGN(const Graph back, ImportOnnx(AsBytes(model.SerializeAsString())));
    EXPECT_EQ(back.Dump(), g.Dump());
    onnx::inliner::InlineLocalFunctions(model);
    ASSERT_EQ(model.functions_size(), 0);
    HT_ASSERT_OK_AND_ASSIGN(const Graph standard, ImportOnnx(AsBytes(model.SerializeAsString())));
    HT_ASSERT_OK_AND_ASSIGN(const auto got, EvaluateGraph(standard, {x}));
    EXPECT_EQ(got[0].bytes(), want[0].bytes()) << opset;
    EXPECT_EQ(got[1].bytes(), want[1].bytes()) << opset;
    // Each row within half of its own step.
    const auto y = want[0].data<float>();
    const float steps[] = {3, 900, 0, 0.003f};
    for (int i = 0; i < 12; ++i) {
      EXPECT_NEAR(y[i], x.data<float>()[i], steps[i / 3] / 255 * 0.51f) << i;
    }
  }
}

TEST(OwnFunctions, FilesWithoutThemHaveNone) {
  Graph g("net");
  g.opsets()[""] = 13;
  Value* x = g.AddInput("x", {DataType::kF32, Symbolic(Shape{2})});
  g.AddOutput(g.AddNode({.op = "Relu", .name = "r", .inputs = {x}, .outputs = {"y"}})->output(0));
  EXPECT_EQ(Exported(g).functions_size(), 0);
}

}  // namespace
}  // namespace halftone
