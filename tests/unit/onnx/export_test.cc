#include "core/onnx/export.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <onnx/checker.h>

#include <filesystem>
#include <string>
#include <vector>

#include "core/onnx/import.h"
#include "core/ops/evaluate.h"
#include "tests/testing/onnx_text.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

onnx::ModelProto Parse(const std::string& bytes) {
  onnx::ModelProto model;
  CHECK(model.ParseFromString(bytes));
  return model;
}

// Every feature that the format has to carry: types, attributes, symbols, nested graphs.
constexpr char kModel[] = R"(
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 3] x, bool c) => (float[N, 2] y, float[N, 3] z)
    <float[3, 2] w = {1, 2, 3, 4, 5, 6}, float[2] b = {0.5, -0.5}, float hi = {2}> {
      h = Gemm<alpha = 0.5, transB = 0>(x, w, b)
      y = Softmax<axis = -1>(h)
      n = Clip(x, , hi)
      z = If (c) <
        then_branch = t () => (float[N, 3] o) { n2 = Neg(n) o = Add(n2, x) },
        else_branch = e () => (float[N, 3] o) { k = Identity(x) o = Mul(k, n) }
      >
    })";

TEST(ExportOnnx, RoundTripComputesTheSame) {
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, ImportText(kModel));
  HT_ASSERT_OK_AND_ASSIGN(const std::string bytes, ExportOnnxInline(g));
  HT_ASSERT_OK_AND_ASSIGN(const Graph back, ImportOnnx(AsBytes(bytes)));
  EXPECT_EQ(back.Dump(), g.Dump());
  for (bool c : {false, true}) {
    const std::vector<Tensor> inputs = {Tensor::Of<float>({2, 3}, {1, -2, 3, 4, 5, -6}),
                                        Tensor::Scalar<bool>(c)};
    HT_ASSERT_OK_AND_ASSIGN(const auto want, EvaluateGraph(g, inputs));
    HT_ASSERT_OK_AND_ASSIGN(const auto got, EvaluateGraph(back, inputs));
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_THAT(got[i].bytes(), ElementsAreArray(want[i].bytes()));
    }
  }
}

TEST(ExportOnnx, PassesTheOnnxChecker) {
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, ImportText(kModel));
  HT_ASSERT_OK_AND_ASSIGN(const std::string bytes, ExportOnnxInline(g));
  EXPECT_NO_THROW(onnx::checker::check_model(Parse(bytes), /*full_check=*/true));
}

TEST(ExportOnnx, EqualGraphsGiveEqualBytes) {
  HT_ASSERT_OK_AND_ASSIGN(const Graph a, ImportText(kModel));
  HT_ASSERT_OK_AND_ASSIGN(const Graph b, ImportText(kModel));
  HT_ASSERT_OK_AND_ASSIGN(const std::string bytes, ExportOnnxInline(a));
  EXPECT_EQ(bytes, *ExportOnnxInline(b));
  EXPECT_EQ(bytes, *ExportOnnxInline(a.Clone()));
}

TEST(ExportOnnx, SaysWhatItKnowsAboutIntermediateValues) {
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, ImportText(kModel));
  HT_ASSERT_OK_AND_ASSIGN(const std::string bytes, ExportOnnxInline(g));
  const onnx::ModelProto model = Parse(bytes);
  EXPECT_EQ(model.producer_name(), "halftone");
  EXPECT_EQ(model.ir_version(), 8);
  ASSERT_EQ(model.graph().value_info_size(), 2);  // h and n
  EXPECT_EQ(model.graph().value_info(0).name(), "h");
  EXPECT_EQ(model.graph().value_info(0).type().tensor_type().shape().dim(0).dim_param(), "N");
}

TEST(ExportOnnx, NestedGraphsReferToOuterNames) {
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, ImportText(kModel));
  HT_ASSERT_OK_AND_ASSIGN(const std::string bytes, ExportOnnxInline(g));
  const onnx::ModelProto model = Parse(bytes);
  for (const auto& node : model.graph().node()) {
    if (node.op_type() != "If") continue;
    EXPECT_EQ(node.input_size(), 1);
    for (const auto& attribute : node.attribute()) EXPECT_EQ(attribute.g().input_size(), 0);
  }
}

TEST(ExportOnnx, InnerNamesThatClashWithOuterOnesAreChanged) {
  auto body = std::make_shared<Graph>("body");
  Value* captured = body->AddInput("captured", {DataType::kF32, Dims{2}});
  // Inside, "x" is another value than outside.
  Node* inner = body->AddNode({.op = "Neg", .inputs = {captured}, .outputs = {"x"}});
  body->AddOutput(inner->output(0));
  body->opsets()[""] = 17;
  auto direct = std::make_shared<Graph>("direct");
  direct->AddOutput(direct->AddInput("anything", {DataType::kF32, Dims{2}}));
  direct->opsets()[""] = 17;

  Graph g;
  g.opsets()[""] = 17;
  Value* x = g.AddInput("x", {DataType::kF32, Dims{2}});
  Value* c = g.AddInput("c", {DataType::kBool, Dims{}});
  Node* branch = g.AddNode(
      {.op = "If",
       .inputs = {c, x},
       .outputs = {"y"},
       .attributes = {{"then_branch", SubgraphPtr(body)}, {"else_branch", SubgraphPtr(direct)}},
       .num_captures = 1});
  g.AddOutput(branch->output(0));
  branch->output(0)->set_type({DataType::kF32, Dims{2}});
  HT_ASSERT_OK_AND_ASSIGN(const std::string bytes, ExportOnnxInline(g));
  EXPECT_NO_THROW(onnx::checker::check_model(Parse(bytes), /*full_check=*/true));
  HT_ASSERT_OK_AND_ASSIGN(const Graph back, ImportOnnx(AsBytes(bytes)));
  const auto run = [&](bool cond) {
    return EvaluateGraph(back, {Tensor::Of<float>({2}, {1, 2}), Tensor::Scalar<bool>(cond)});
  };
  HT_ASSERT_OK_AND_ASSIGN(const auto negated, run(true));
  EXPECT_THAT(negated[0].data<float>(), testing::ElementsAre(-1, -2));
  HT_ASSERT_OK_AND_ASSIGN(const auto same, run(false));
  EXPECT_THAT(same[0].data<float>(), testing::ElementsAre(1, 2));
}

TEST(ExportOnnx, FourBitConstantsStayPacked) {
  Graph g;
  g.opsets()[""] = 21;
  HT_ASSERT_OK_AND_ASSIGN(Tensor packed, Tensor::Create(DataType::kI4, {3}));
  packed.mutable_raw()[0] = std::byte{0xf1};
  packed.mutable_raw()[1] = std::byte{0x07};
  Node* dq = g.AddNode(
      {.op = "DequantizeLinear",
       .inputs = {g.AddConstant("w", packed), g.AddConstant("s", Tensor::Scalar<float>(0.5f))},
       .outputs = {"y"}});
  g.AddOutput(dq->output(0));
  dq->output(0)->set_type({DataType::kF32, Dims{3}});
  HT_ASSERT_OK_AND_ASSIGN(const std::string bytes, ExportOnnxInline(g));
  const onnx::ModelProto model = Parse(bytes);
  EXPECT_EQ(model.ir_version(), 10);
  EXPECT_EQ(model.graph().initializer(0).data_type(), onnx::TensorProto::INT4);
  EXPECT_EQ(model.graph().initializer(0).raw_data(), std::string("\xf1\x07", 2));
}

TEST(ExportOnnx, EightBitFloatsComeBackAsTheyWent) {
  for (const DataType type :
       {DataType::kF8E4M3FN, DataType::kF8E4M3FNUZ, DataType::kF8E5M2, DataType::kF8E5M2FNUZ}) {
    SCOPED_TRACE(Name(type));
    Graph g;
    g.opsets()[""] = 19;
    HT_ASSERT_OK_AND_ASSIGN(const Tensor w, Convert(Tensor::Of<float>({2}, {1.5f, -3}), type));
    Node* dq =
        g.AddNode({.op = "DequantizeLinear",
                   .inputs = {g.AddConstant("w", w), g.AddConstant("s", Tensor::Scalar<float>(2))},
                   .outputs = {"y"}});
    g.AddOutput(dq->output(0));
    dq->output(0)->set_type({DataType::kF32, Dims{2}});
    HT_ASSERT_OK_AND_ASSIGN(const std::string bytes, ExportOnnxInline(g));
    HT_ASSERT_OK_AND_ASSIGN(const Graph back, ImportOnnx(AsBytes(bytes)));
    EXPECT_EQ(back.FindValue("w")->constant().type(), type);
    HT_ASSERT_OK_AND_ASSIGN(const auto y, EvaluateGraph(back, {}));
    EXPECT_THAT(y[0].data<float>(), testing::ElementsAre(3, -6));
  }
}

TEST(ExportOnnx, LargeConstantsGoToAlignedExternalData) {
  Graph g;
  g.opsets()[""] = 17;
  const std::vector<float> values(700, 1.5f);
  Value* x = g.AddInput("x", {DataType::kF32, Dims{700}});
  Value* a = g.AddConstant("a", Tensor::Of<float>({700}, absl::MakeConstSpan(values)));
  Value* b = g.AddConstant("b", Tensor::Of<float>({700}, absl::MakeConstSpan(values)));
  Value* small = g.AddConstant("small", Tensor::Scalar<float>(1));
  Node* sum = g.AddNode({.op = "Sum", .inputs = {x, a, b, small}, .outputs = {"y"}});
  g.AddOutput(sum->output(0));
  HT_ASSERT_OK(InferShapes(g));
  std::string data;
  HT_ASSERT_OK_AND_ASSIGN(const ExportedModel exported,
                          ExportOnnx(g, {.data_file_name = "w.bin", .metadata = {{"spec", "int8"}}},
                                     [&](absl::string_view chunk) {
                                       data.append(chunk.data(), chunk.size());
                                       return absl::OkStatus();
                                     }));
  EXPECT_EQ(exported.data_bytes, 4096 + 2800);
  EXPECT_EQ(data.size(), 4096 + 2800);
  const onnx::ModelProto model = Parse(exported.onnx);
  EXPECT_EQ(model.graph().initializer(1).external_data(0).value(), "w.bin");
  EXPECT_EQ(model.graph().initializer(1).external_data(1).value(), "4096");
  EXPECT_TRUE(model.graph().initializer(2).has_raw_data());
  EXPECT_EQ(model.metadata_props(0).key(), "spec");
}

TEST(ExportOnnx, AFailingWriterFailsTheExport) {
  Graph g;
  g.opsets()[""] = 17;
  const std::vector<float> values(700, 1.5f);
  g.AddOutput(g.AddConstant("a", Tensor::Of<float>({700}, absl::MakeConstSpan(values))));
  EXPECT_THAT(
      ExportOnnx(g, {},
                 [](absl::string_view) { return absl::ResourceExhaustedError("disk full"); }),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("disk full")));
}

TEST(ExportOnnxFile, WritesWhatImportReads) {
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, ImportText(kModel));
  const std::string path =
      (std::filesystem::path(testing::TempDir()) / "halftone_export_test.onnx").string();
  HT_ASSERT_OK(ExportOnnxFile(g, path));
  HT_ASSERT_OK_AND_ASSIGN(const Graph back, ImportOnnxFile(path));
  EXPECT_EQ(back.Dump(), g.Dump());
  std::filesystem::remove(path);
}

TEST(ExportOnnxFile, SaysWhyItCannotWrite) {
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, ImportText(kModel));
  EXPECT_FALSE(ExportOnnxFile(g, "/nonexistent-folder/x.onnx").ok());
}

}  // namespace
}  // namespace halftone
