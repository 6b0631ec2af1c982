#include "core/onnx/import.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/ops/evaluate.h"
#include "tests/testing/onnx_text.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsNull;
using ::testing::NotNull;
using ::testing::SizeIs;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
constexpr absl::StatusCode kExhausted = absl::StatusCode::kResourceExhausted;
constexpr absl::StatusCode kUnimplemented = absl::StatusCode::kUnimplemented;

std::string Opset17(absl::string_view graph) {
  return absl::StrCat("<ir_version: 8, opset_import: [\"\" : 17]> ", graph);
}

std::vector<float> Floats(const Tensor& t) {
  return {t.data<float>().begin(), t.data<float>().end()};
}

// Runs a graph of one f32 output.
absl::StatusOr<std::vector<float>> Compute(const Graph& graph, std::vector<Tensor> inputs) {
  absl::StatusOr<std::vector<Tensor>> out = EvaluateGraph(graph, inputs);
  if (!out.ok()) return out.status();
  return Floats((*out)[0]);
}

TEST(ImportOnnx, KeepsNamesSymbolsAndOpset) {
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, ImportText(Opset17(R"(
      net (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) })")));
  EXPECT_EQ(g.name(), "net");
  EXPECT_EQ(g.opset(), 17);
  ASSERT_THAT(g.inputs(), SizeIs(1));
  EXPECT_EQ(ToString(g.inputs()[0]->type()), "f32[N,4]");
  EXPECT_EQ(g.outputs()[0]->name(), "y");
  EXPECT_EQ(ToString(g.outputs()[0]->type()), "f32[N,4]");
  EXPECT_FALSE(g.nodes()[0]->name().empty());
}

TEST(ImportOnnx, ZeroAndNegativeInputDimensionsAreUnknown) {
  onnx::ModelProto model =
      ParseModel(Opset17("net (float[2, 3, 4] x) => (float[a, b, c] y) { y = Relu(x) }"));
  auto* shape = model.mutable_graph()
                    ->mutable_input(0)
                    ->mutable_type()
                    ->mutable_tensor_type()
                    ->mutable_shape();
  shape->mutable_dim(0)->set_dim_value(0);
  shape->mutable_dim(1)->set_dim_value(-1);
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, Import(model));
  EXPECT_EQ(ToString(g.inputs()[0]->type()), "f32[?,?,4]");
}

TEST(ImportOnnx, InitializersThatAreInputsBecomeConstantsAndUnusedOnesVanish) {
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, ImportText(Opset17(R"(
      net (float[2] x, float[2] w) => (float[2] y)
      <float[2] w = {1, 2}, float[2] unused = {3, 4}> { y = Add(x, w) })")));
  EXPECT_THAT(g.inputs(), SizeIs(1));
  ASSERT_THAT(g.FindValue("w"), NotNull());
  EXPECT_TRUE(g.FindValue("w")->is_constant());
  EXPECT_THAT(g.FindValue("unused"), IsNull());
  HT_ASSERT_OK_AND_ASSIGN(const auto y, Compute(g, {Tensor::Of<float>({2}, {10, 20})}));
  EXPECT_THAT(y, ElementsAre(11, 22));
}

TEST(ImportOnnx, ConstantNodesOfEveryKindBecomeConstants) {
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, ImportText(Opset17(R"(
      net (float[2] x) => (float[2] y) {
        a = Constant<value = float[2] {1, 2}>()
        b = Constant<value_float = 10.0>()
        c = Constant<value_floats = [100.0, 200.0]>()
        i = Constant<value_int = 1000>()
        f = Cast<to = 1>(i)
        y = Sum(x, a, b, c, f)
      })")));
  HT_ASSERT_OK_AND_ASSIGN(const auto y, Compute(g, {Tensor::Of<float>({2}, {0, 0})}));
  EXPECT_THAT(y, ElementsAre(1111, 1212));
}

TEST(ImportOnnx, AbsentOptionalInputsAreNullAndTrailingOnesAreDropped) {
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, ImportText(Opset17(R"(
      net (float[2] x) => (float[2] y, float[2] z) <float hi = {1}> {
        y = Clip(x, , hi)
        z = Clip(x, , )
      })")));
  ASSERT_THAT(g.nodes()[0]->inputs(), SizeIs(3));
  EXPECT_THAT(g.nodes()[0]->input(1), IsNull());
  EXPECT_THAT(g.nodes()[1]->inputs(), SizeIs(1));
}

TEST(ImportOnnx, SortsNodesThatTheFileListsInAnyOrder) {
  onnx::ModelProto model = ParseModel(Opset17(R"(
      net (float[2] x) => (float[2] z) { y = Relu(x) z = Neg(y) })"));
  model.mutable_graph()->mutable_node()->SwapElements(0, 1);
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, Import(model));
  EXPECT_EQ(g.nodes()[0]->op(), "Relu");
}

TEST(ImportOnnx, DefaultDomainHasTwoSpellings) {
  onnx::ModelProto model = ParseModel(Opset17("net (float[2] x) => (float[2] y) { y = Relu(x) }"));
  model.mutable_opset_import(0)->set_domain("ai.onnx");
  model.mutable_graph()->mutable_node(0)->set_domain("ai.onnx");
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, Import(model));
  EXPECT_EQ(g.opset(), 17);
  EXPECT_EQ(g.nodes()[0]->domain(), "");
}

TEST(ImportOnnx, EqualInitializersOfOneNameAreOne) {
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, ImportText(Opset17(R"(
      net (float[2] x) => (float[2] y)
      <float[2] w = {1, 2}, float[2] w = {1, 2}> { y = Add(x, w) })")));
  HT_ASSERT_OK_AND_ASSIGN(const auto y, Compute(g, {Tensor::Of<float>({2}, {10, 20})}));
  EXPECT_THAT(y, ElementsAre(11, 22));
}

TEST(ImportOnnx, WithoutOpsetImportsTheIrVersionDecides) {
  onnx::ModelProto model = ParseModel(Opset17("net (float[2] x) => (float[2] y) { y = Relu(x) }"));
  model.clear_opset_import();
  constexpr int kWant[] = {8, 9, 10, 11, 14, 18, 20, 22};
  for (int ir = 3; ir <= 10; ++ir) {
    model.set_ir_version(ir);
    HT_ASSERT_OK_AND_ASSIGN(const Graph g, Import(model));
    EXPECT_EQ(g.opset(), kWant[ir - 3]) << "IR version " << ir;
  }
}

TEST(ImportOnnx, NodesAndNestedGraphsNeedNoNames) {
  onnx::ModelProto model = ParseModel(Opset17(R"(
      net (float[2] x) => (float[2] z) { y = Relu(x) z = Neg(y) })"));
  model.mutable_graph()->clear_name();
  for (auto& node : *model.mutable_graph()->mutable_node()) node.set_name("same");
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, Import(model));
  EXPECT_NE(g.nodes()[0]->name(), g.nodes()[1]->name());
}

TEST(ImportOnnx, OutputsWithoutANameAreAbsent) {
  onnx::ModelProto model = ParseModel(Opset17(R"(
      net (float[4, 2] x) => (int64[2, 2] i) <int64[1] k = {2}> { v, i = TopK<axis = 0>(x, k) })"));
  model.mutable_graph()->mutable_node(0)->set_output(0, "");
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, Import(model));
  EXPECT_THAT(g.nodes()[0]->output(0), IsNull());
  EXPECT_THAT(g.nodes()[0]->output(1), NotNull());
}

// --- initializers
// ---------------------------------------------------------------------------------

onnx::ModelProto WithInitializer(onnx::TensorProto tensor) {
  onnx::ModelProto model = ParseModel(Opset17("net (float[1] x) => (float[1] x2) { x2 = Neg(x) }"));
  tensor.set_name("w");
  *model.mutable_graph()->add_initializer() = tensor;
  auto* output = model.mutable_graph()->add_output();
  output->set_name("w");
  return model;
}

struct TypedCase {
  std::string name;
  std::string text;  // of a TensorProto in ONNX text
  std::string want;
};

class TypedInitializer : public testing::TestWithParam<TypedCase> {};

TEST_P(TypedInitializer, IsRead) {
  onnx::TensorProto tensor;
  ASSERT_TRUE(onnx::OnnxParser::Parse(tensor, GetParam().text.c_str()).IsOK());
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, Import(WithInitializer(tensor)));
  EXPECT_EQ(g.FindValue("w")->constant().ToString(), GetParam().want);
}

INSTANTIATE_TEST_SUITE_P(
    Onnx, TypedInitializer,
    testing::Values(TypedCase{"F32", "float[2] {1.5, -2}", "f32[2] {1.5, -2}"},
                    TypedCase{"F64", "double[2] {1.5, -2}", "f64[2] {1.5, -2}"},
                    TypedCase{"I8", "int8[2] {-128, 127}", "i8[2] {-128, 127}"},
                    TypedCase{"U8", "uint8[2] {0, 255}", "u8[2] {0, 255}"},
                    TypedCase{"I16", "int16[2] {-32768, 5}", "i16[2] {-32768, 5}"},
                    TypedCase{"U16", "uint16[1] {65535}", "u16[1] {65535}"},
                    TypedCase{"I32", "int32[1] {-7}", "i32[1] {-7}"},
                    TypedCase{"U32", "uint32[1] {4294967295}", "u32[1] {4294967295}"},
                    TypedCase{"I64", "int64[2] {-1, 1}", "i64[2] {-1, 1}"},
                    TypedCase{"U64", "uint64[1] {9}", "u64[1] {9}"},
                    TypedCase{"Bool", "bool[2] {1, 0}", "bool[2] {1, 0}"},
                    TypedCase{"Scalar", "float {3}", "f32[] {3}"}),
    [](const auto& info) { return info.param.name; });

TEST(Initializer, HalfFloatsTravelAsBitPatternsInInt32) {
  onnx::TensorProto tensor;
  tensor.set_data_type(onnx::TensorProto::FLOAT16);
  tensor.add_dims(2);
  tensor.add_int32_data(0x3c00);
  tensor.add_int32_data(0xc000);
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, Import(WithInitializer(tensor)));
  EXPECT_EQ(g.FindValue("w")->constant().ToString(), "f16[2] {1, -2}");
  tensor.set_data_type(onnx::TensorProto::BFLOAT16);
  tensor.set_int32_data(0, 0x3f80);
  HT_ASSERT_OK_AND_ASSIGN(const Graph b, Import(WithInitializer(tensor)));
  EXPECT_EQ(b.FindValue("w")->constant().ToString(), "bf16[2] {1, -2}");
}

TEST(Initializer, FourBitTypesArePackedInPairs) {
  onnx::TensorProto tensor;
  tensor.set_data_type(onnx::TensorProto::UINT4);
  tensor.add_dims(3);
  tensor.add_int32_data(0x21);
  tensor.add_int32_data(0x03);
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, Import(WithInitializer(tensor)));
  const Tensor& t = g.FindValue("w")->constant();
  EXPECT_EQ(t.type(), DataType::kU4);
  EXPECT_THAT(t.bytes(), ElementsAre(std::byte{0x21}, std::byte{0x03}));
}

TEST(Initializer, EightBitFloatsAreBitPatterns) {
  onnx::TensorProto tensor;
  tensor.set_data_type(onnx::TensorProto::FLOAT8E5M2);
  tensor.add_dims(2);
  tensor.add_int32_data(0x3c);
  tensor.add_int32_data(0xc0);
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, Import(WithInitializer(tensor)));
  const Tensor& t = g.FindValue("w")->constant();
  EXPECT_EQ(t.type(), DataType::kF8E5M2);
  EXPECT_EQ(Convert(t, DataType::kF32)->ToString(), "f32[2] {1, -2}");
}

TEST(Initializer, RawBoolsAreNormalized) {
  onnx::TensorProto tensor;
  tensor.set_data_type(onnx::TensorProto::BOOL);
  tensor.add_dims(3);
  tensor.set_raw_data(std::string("\x00\x02\xff", 3));
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, Import(WithInitializer(tensor)));
  EXPECT_EQ(g.FindValue("w")->constant().ToString(), "bool[3] {0, 1, 1}");
}

struct BadTensorCase {
  std::string name;
  std::vector<int64_t> dims;
  std::string raw;
  int type = onnx::TensorProto::FLOAT;
  absl::StatusCode code = kInvalid;
  std::string message;
};

class BadInitializer : public testing::TestWithParam<BadTensorCase> {};

TEST_P(BadInitializer, IsRefusedBeforeAnythingIsAllocated) {
  onnx::TensorProto tensor;
  tensor.set_data_type(GetParam().type);
  for (int64_t d : GetParam().dims) tensor.add_dims(d);
  tensor.set_raw_data(GetParam().raw);
  EXPECT_THAT(Import(WithInitializer(tensor)),
              StatusIs(GetParam().code, AllOf(HasSubstr("'w'"), HasSubstr(GetParam().message))));
}

INSTANTIATE_TEST_SUITE_P(
    Onnx, BadInitializer,
    testing::Values(
        BadTensorCase{"TooFewBytes", {2}, "1234", 1, kInvalid, "has 4 bytes"},
        BadTensorCase{"TooManyBytes", {1}, "12345678", 1, kInvalid, "wants 4"},
        BadTensorCase{"ClaimsTenGigabytes", {10, 1 << 28}, "1234", 1, kInvalid, "has 4 bytes"},
        BadTensorCase{"BeyondTheLimit", {1 << 20, 1 << 20}, "1", 1, kExhausted, "limit"},
        BadTensorCase{"Overflows", {int64_t{1} << 40, int64_t{1} << 40}, "1", 1, kInvalid, "2^63"},
        BadTensorCase{"NegativeDimension", {-4}, "1", 1, kInvalid, "negative"},
        BadTensorCase{"String", {1}, "1", onnx::TensorProto::STRING, kInvalid, "data type 8"},
        BadTensorCase{"Undefined", {1}, "1", 0, kInvalid, "data type 0"},
        BadTensorCase{"Rank17", std::vector<int64_t>(17, 1), "1234", 1, kExhausted, "rank 17"}),
    [](const auto& info) { return info.param.name; });

TEST(Initializer, TypedFieldOfTheWrongLengthIsRefused) {
  onnx::TensorProto tensor;
  tensor.set_data_type(onnx::TensorProto::FLOAT);
  tensor.add_dims(int64_t{1} << 31);
  tensor.add_float_data(1);
  EXPECT_THAT(Import(WithInitializer(tensor)), StatusIs(kInvalid, HasSubstr("has 1 values")));
}

// --- what is wrong is listed, all of it --------------------------------------------------------

TEST(ImportOnnx, ListsEveryUnsupportedOperatorAtOnce) {
  EXPECT_THAT(
      ImportText(R"(<ir_version: 8, opset_import: ["" : 17, "com.acme" : 3]>
        net (float[2] x) => (float[2] z) {
          y = com.acme.Wobble(x)
          y2 = com.acme.Wobble(y)
          z = NoSuchOperator(y2)
        })"),
      StatusIs(kUnimplemented, AllOf(HasSubstr("com.acme.Wobble (opset 3) in 'y', 'y2'"),
                                     HasSubstr("ai.onnx.NoSuchOperator (opset 17) in 'z'"))));
}

TEST(ImportOnnx, ListsEveryInvalidPieceAtOnce) {
  EXPECT_THAT(
      ImportText(Opset17(R"(
        net (float[2] x) => (float[2] y, float[2] nowhere) {
          y = Add(x, ghost)
          z = Relu(x, x, x)
        })")),
      StatusIs(kInvalid, AllOf(HasSubstr("reads 'ghost'"), HasSubstr("got 3 inputs, want 1"),
                               HasSubstr("output 'nowhere'"))));
}

TEST(ImportOnnx, ListsUnknownOperatorsBesideWhatIsInvalid) {
  EXPECT_THAT(ImportText(Opset17(R"(
                net (float[2] x) => (float[2] y) { y = Add(x, ghost) z = NoSuchOperator(x) })")),
              StatusIs(kInvalid, AllOf(HasSubstr("reads 'ghost'"), HasSubstr("NoSuchOperator"))));
}

TEST(ImportOnnx, ListsEveryNodeThatFailsInferenceByItself) {
  const absl::Status status = ImportText(Opset17(R"(
        net (float[2, 3] x, float[4, 5] w) => (float[a, b] after, float[c, d] second) {
          first = MatMul(x, w)
          after = Relu(first)
          second = Add(x, w)
        })"))
                                  .status();
  EXPECT_THAT(status, StatusIs(kInvalid, AllOf(HasSubstr("MatMul"), HasSubstr("Add"))));
  EXPECT_THAT(status.message(), testing::Not(HasSubstr("Relu")));
}

TEST(ImportOnnx, LongListsEndWithACount) {
  std::string nodes;
  for (int i = 0; i < 70; ++i) absl::StrAppend(&nodes, "a", i, " = Neg(ghost", i, ") ");
  EXPECT_THAT(ImportText(Opset17(
                  absl::StrCat("net (float[2] x) => (float[2] y) {", nodes, " y = Relu(x) }"))),
              StatusIs(kInvalid, HasSubstr("and 20 more")));
}

struct BadModelCase {
  std::string name;
  std::string text;
  absl::StatusCode code;
  std::string message;
};

class BadModel : public testing::TestWithParam<BadModelCase> {};

TEST_P(BadModel, IsRefusedWithItsReason) {
  EXPECT_THAT(ImportText(GetParam().text),
              StatusIs(GetParam().code, HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    Onnx, BadModel,
    testing::Values(
        BadModelCase{"Cycle",
                     Opset17("net (float[2] x) => (float[2] z) { y = Add(x, z) z = Neg(y) }"),
                     kInvalid, "cycle"},
        BadModelCase{"SameNameTwice",
                     Opset17("net (float[2] x) => (float[2] y) { y = Relu(x) y = Neg(x) }"),
                     kInvalid, "defined twice"},
        BadModelCase{"InitializersThatContradict",
                     Opset17("net (float[2] x) => (float[2] y) <float[2] w = {1, 2}, float[2] w = "
                             "{1, 3}> { y = Add(x, w) }"),
                     kInvalid, "initializer 'w': the name is defined twice"},
        BadModelCase{"OutputTwice",
                     Opset17("net (float[2] x) => (float[2] y, float[2] y) { y = Relu(x) }"),
                     kInvalid, "listed twice"},
        BadModelCase{"RequiredInputAbsent",
                     Opset17("net (float[2] x) => (float[2] y) { y = Conv(x, , x) }"), kInvalid,
                     "input 1 is absent"},
        BadModelCase{"DomainWithoutOpset",
                     Opset17("net (float[2] x) => (float[2] y) { y = com.acme.Relu(x) }"), kInvalid,
                     "com.acme"},
        BadModelCase{"OpsetFromTheFuture",
                     "<ir_version: 8, opset_import: [\"\" : 99]> net (float[2] x) => (float[2] y) "
                     "{ y = Relu(x) }",
                     kUnimplemented, "opset 99"},
        BadModelCase{"OldIr",
                     "<ir_version: 2, opset_import: [\"\" : 7]> net (float[2] x) => (float[2] y) { "
                     "y = Relu(x) }",
                     kInvalid, "IR version 2"},
        BadModelCase{"NewIr",
                     "<ir_version: 14, opset_import: [\"\" : 17]> net (float[2] x) => (float[2] y) "
                     "{ y = Relu(x) }",
                     kUnimplemented, "IR version 14"},
        BadModelCase{"NoOutputs", Opset17("net (float[2] x) => () { y = Relu(x) }"), kInvalid,
                     "no outputs"},
        BadModelCase{"SequenceInput",
                     Opset17("net (seq(float[2]) x, float[2] y) => (float[2] z) { z = Relu(y) }"),
                     kInvalid, "sequence"},
        BadModelCase{"AbsurdDimension",
                     Opset17("net (float[9000000000000000000, 2] x) => (float[N] y) { y = Relu(x) "
                             "}"),
                     kExhausted, "dimension"},
        BadModelCase{"SameNameTwiceBesideOtherNodes",
                     Opset17("net (float[2] x, float[2] w) => (float[2] y) { y = Add(x, w) y2 = "
                             "Relu(w) y2 = Neg(y) }"),
                     kInvalid, "'y2': the name is defined twice"}),
    [](const auto& info) { return info.param.name; });

TEST(ImportOnnx, LimitsAreEnforced) {
  const std::string text = Opset17("net (float[2] x) => (float[2] z) { y = Relu(x) z = Neg(y) }");
  EXPECT_THAT(ImportText(text, {.max_nodes = 1}), StatusIs(kExhausted, HasSubstr("nodes")));
  EXPECT_THAT(ImportText(text, {.max_model_bytes = 10}), StatusIs(kExhausted, HasSubstr("bytes")));
  EXPECT_THAT(ImportText(text, {.max_rank = 0}), StatusIs(kExhausted, HasSubstr("rank")));
  EXPECT_THAT(ImportText(text, {.max_dim = 1}), StatusIs(kExhausted, HasSubstr("dimension 2")));
  const std::string weights =
      Opset17("net (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }");
  EXPECT_THAT(ImportText(weights, {.max_tensor_bytes = 7}),
              StatusIs(kExhausted, HasSubstr("'w': has 8 bytes")));
}

// --- nested graphs ----------------------------------------------------------------------------

constexpr absl::string_view kNestedIf = R"(
    net (float[2] x, bool c, bool d) => (float[2] y) <float[2] w = {10, 20}> {
      h = Neg(x)
      y = If (c) <
        then_branch = t () => (float[2] to) {
          to = If (d) <
            then_branch = tt () => (float[2] tto) { tto = Add(h, w) },
            else_branch = te () => (float[2] teo) { teo = Identity(x) }
          >
        },
        else_branch = e () => (float[2] eo) { eo = Mul(w, w) }
      >
    })";

TEST(NestedGraph, CapturesThroughSeveralLevelsBecomeTrailingInputs) {
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, ImportText(Opset17(kNestedIf)));
  const Node* outer = g.FindValue("y")->producer();
  // d, h, w and x are read somewhere inside.
  EXPECT_EQ(outer->num_captures(), 4);
  ASSERT_THAT(outer->inputs(), SizeIs(5));
  const SubgraphPtr then_branch = *outer->attributes().Find<SubgraphPtr>("then_branch");
  const SubgraphPtr else_branch = *outer->attributes().Find<SubgraphPtr>("else_branch");
  ASSERT_THAT(then_branch->inputs(), SizeIs(4));
  ASSERT_THAT(else_branch->inputs(), SizeIs(4));
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(then_branch->inputs()[i]->name(), outer->input(i + 1)->name());
    EXPECT_EQ(else_branch->inputs()[i]->name(), outer->input(i + 1)->name());
  }
  HT_EXPECT_OK(then_branch->Verify());
  EXPECT_EQ(then_branch->nodes()[0]->num_captures(), 3);
}

TEST(NestedGraph, ComputesWhatTheBranchesSay) {
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, ImportText(Opset17(kNestedIf)));
  const auto run = [&](bool c, bool d) {
    return Compute(
        g, {Tensor::Of<float>({2}, {1, 2}), Tensor::Scalar<bool>(c), Tensor::Scalar<bool>(d)});
  };
  HT_ASSERT_OK_AND_ASSIGN(const auto tt, run(true, true));
  EXPECT_THAT(tt, ElementsAre(9, 18));
  HT_ASSERT_OK_AND_ASSIGN(const auto te, run(true, false));
  EXPECT_THAT(te, ElementsAre(1, 2));
  HT_ASSERT_OK_AND_ASSIGN(const auto e, run(false, true));
  EXPECT_THAT(e, ElementsAre(100, 400));
}

TEST(NestedGraph, ABranchMayUseTheNameOfTheIfOutputItself) {
  HT_EXPECT_OK(ImportText(Opset17(R"(net (float[2] x, bool c) => (float[2] y) {
      y = If (c) < then_branch = t () => (float[2] y) { y = Neg(x) },
                   else_branch = e () => (float[2] y) { y = Relu(x) } > })")));
}

// An absent condition stays an input: what the body captures comes behind it.
TEST(NestedGraph, ALoopMayLackItsCondition) {
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, ImportText(Opset17(R"(
      net (int64 n, float[2] x, float[2] step) => (float[2] y) {
        y = Loop (n, , x) < body = b (int64 i, bool go, float[2] s) => (bool on, float[2] t) {
          on = Identity(go)
          t = Add(s, step)
        } >
      })")));
  EXPECT_EQ(g.nodes()[0]->inputs()[1], nullptr);
  HT_ASSERT_OK_AND_ASSIGN(const auto y,
                          Compute(g, {Tensor::Scalar<int64_t>(3), Tensor::Of<float>({2}, {1, 2}),
                                      Tensor::Of<float>({2}, {10, 20})}));
  EXPECT_THAT(y, ElementsAre(31, 62));
}

TEST(NestedGraph, AnIfWithoutAConditionIsRefused) {
  EXPECT_THAT(ImportText(Opset17(R"(net (float[2] x) => (float[2] y) {
      y = If () < then_branch = t () => (float[2] z) { z = Neg(x) },
                  else_branch = e () => (float[2] z) { z = Relu(x) } > })")),
              StatusIs(kInvalid, HasSubstr("If")));
}

TEST(NestedGraph, HidingAnOuterValueIsRefused) {
  EXPECT_THAT(ImportText(Opset17(R"(net (float[2] x, bool c) => (float[2] y) {
      h = Neg(x)
      y = If (c) < then_branch = t () => (float[2] h) { h = Neg(x) },
                   else_branch = e () => (float[2] z) { z = Relu(h) } > })")),
              StatusIs(kInvalid, HasSubstr("hides")));
}

TEST(NestedGraph, ProblemsInsideNameTheBranch) {
  EXPECT_THAT(ImportText(Opset17(R"(net (float[2] x, bool c) => (float[2] y) {
      y = If (c) < then_branch = t () => (float[2] z) { z = Neg(ghost) },
                   else_branch = e () => (float[2] z) { z = Frobnicate(x) } > })")),
              StatusIs(kInvalid, HasSubstr("reads 'ghost'")));
}

std::string NestedDeep(int depth) {
  std::string body = "float[2] o0) { o0 = Neg(x) }";
  for (int i = 1; i <= depth; ++i) {
    body = absl::StrCat("float[2] o", i, ") { o", i, " = If (c) < then_branch = t", i, " () => (",
                        body, ", else_branch = e", i, " () => (float[2] p", i, ") { p", i,
                        " = Neg(x) } > }");
  }
  return Opset17(absl::StrCat("net (float[2] x, bool c) => (", body));
}

TEST(NestedGraph, DepthIsLimited) {
  HT_EXPECT_OK(ImportText(NestedDeep(16)));
  EXPECT_THAT(ImportText(NestedDeep(17)), StatusIs(kExhausted, HasSubstr("nested")));
  EXPECT_THAT(ImportText(NestedDeep(300)), StatusIs(kInvalid, HasSubstr("nested")));
}

// --- functions ----------------------------------------------------------------------------------

TEST(Functions, ModelLocalOnesAreExpanded) {
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, ImportText(R"(
      <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
      net (float[2] x) => (float[2] y) { y = local.twice(x) }
      <domain: "local", opset_import: ["" : 17, "local" : 1]>
      twice (a) => (b) { t = local.once(a) b = local.once(t) }
      <domain: "local", opset_import: ["" : 17]>
      once (a) => (b) { b = Add(a, a) })"));
  HT_ASSERT_OK_AND_ASSIGN(const auto y, Compute(g, {Tensor::Of<float>({2}, {1, 2})}));
  EXPECT_THAT(y, ElementsAre(4, 8));
}

TEST(Functions, CallsMayLeaveAttributesToTheirDefaults) {
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, ImportText(R"(
      <ir_version: 9, opset_import: ["" : 17, "local" : 1]>
      net (float[2] x) => (float[2] y, float[2] z) {
        y = local.leak(x)
        z = local.leak<slope = 0.25>(x)
      }
      <domain: "local", opset_import: ["" : 17]>
      leak <slope: float = 0.5> (a) => (b) { b = LeakyRelu<alpha: float = @slope>(a) })"));
  HT_ASSERT_OK_AND_ASSIGN(const auto out, EvaluateGraph(g, {Tensor::Of<float>({2}, {-1, 2})}));
  EXPECT_THAT(out[0].data<float>(), ElementsAre(-0.5, 2));
  EXPECT_THAT(out[1].data<float>(), ElementsAre(-0.25, 2));
}

// An operator that has no row but a body in its schema, which reads the attribute `axes`.
TEST(Functions, BodiesOfSchemasGetTheDefaultsOfTheirSchema) {
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, ImportText(Opset17(R"(
      net (float[2, 2] x) => (float[2, 2] y) {
        y = MeanVarianceNormalization<axes = [0]>(x)
      })")));
  HT_ASSERT_OK_AND_ASSIGN(const Graph whole, ImportText(Opset17(R"(
      net (float[1, 2, 1, 2] x) => (float[1, 2, 1, 2] y) { y = MeanVarianceNormalization(x) })")));
  HT_ASSERT_OK_AND_ASSIGN(const auto rows, Compute(g, {Tensor::Of<float>({2, 2}, {1, 10, 3, 30})}));
  EXPECT_THAT(rows, testing::Pointwise(testing::FloatNear(1e-5f), {-1, -1, 1, 1}));
  HT_ASSERT_OK_AND_ASSIGN(const auto channels,
                          Compute(whole, {Tensor::Of<float>({1, 2, 1, 2}, {1, 3, 10, 30})}));
  EXPECT_THAT(channels, testing::Pointwise(testing::FloatNear(1e-5f), {-1, 1, -1, 1}));
}

TEST(OldOpsets, OperandsNameTheAxisTheyLieAlong) {
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, ImportText(R"(
      <ir_version: 3, opset_import: ["" : 6]>
      net (float[2, 2] x) => (float[2, 2] y) <float[2] b = {10, 20}> {
        y = Add<broadcast = 1, axis = 0>(x, b) })"));
  EXPECT_EQ(g.opset(), 7);
  HT_ASSERT_OK_AND_ASSIGN(const auto y, Compute(g, {Tensor::Of<float>({2, 2}, {1, 2, 3, 4})}));
  EXPECT_THAT(y, ElementsAre(11, 12, 23, 24));
}

TEST(Functions, OnesThatCallThemselvesAreRefused) {
  EXPECT_THAT(ImportText(R"(
      <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
      net (float[2] x) => (float[2] y) { y = local.f(x) }
      <domain: "local", opset_import: ["" : 17, "local" : 1]>
      f (a) => (b) { b = local.g(a) }
      <domain: "local", opset_import: ["" : 17, "local" : 1]>
      g (a) => (b) { b = local.f(a) })"),
              StatusIs(kInvalid, HasSubstr("calls itself")));
}

TEST(Functions, ExplosionsAreRefusedBeforeTheyHappen) {
  std::string text = R"(<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
      net (float[2] x) => (float[2] y) { y = local.f30(x) }
      <domain: "local", opset_import: ["" : 17]> f0 (a) => (b) { b = Neg(a) })";
  for (int i = 1; i <= 30; ++i) {
    absl::StrAppend(&text, "<domain: \"local\", opset_import: [\"\" : 17, \"local\" : 1]> f", i,
                    " (a) => (b) { c = local.f", i - 1, "(a) b = local.f", i - 1, "(c) }");
  }
  EXPECT_THAT(ImportText(text), StatusIs(kExhausted, HasSubstr("functions are expanded")));
}

}  // namespace
}  // namespace halftone
