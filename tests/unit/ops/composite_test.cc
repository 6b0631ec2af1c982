// Operators that are compositions: hand-worked cases where ONNX Runtime has no kernel to compare
// with, and what a file may get wrong.
#include "core/ops/composite.h"

#include <gmock/gmock.h>

#include "core/ops/registry.h"
#include "tests/testing/status_matchers.h"
#include "tests/unit/ops/ops_testing.h"

namespace halftone {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

absl::StatusOr<std::vector<Tensor>> RunMicrosoft(const std::string& op, std::vector<Tensor> inputs,
                                                 Attributes attributes = {}, int outputs = 1) {
  NodeCase c{.op = op, .opset = 13, .attributes = std::move(attributes)};
  c.inputs = std::move(inputs);
  Graph g = GraphOf(c, outputs);
  g.opsets()["com.microsoft"] = 1;
  g.SetOp(g.nodes()[0], op, "com.microsoft");
  std::vector<const Tensor*> present;
  for (const Tensor& t : c.inputs) present.push_back(IsAbsent(t) ? nullptr : &t);
  return EvaluateNode(g, *g.nodes()[0], present);
}

const Tensor kAbsent;

TEST(Composite, EveryRowHasABodyAndComesFromVersionOne) {
  int count = 0;
  for (const OpDef& row : AllOps()) {
    if (row.domain != "com.microsoft") continue;
    Graph g;
    const Node* node = g.AddNode({.op = std::string(row.name), .domain = "com.microsoft"});
    EXPECT_NE(FindComposite(*node), nullptr) << row.name;
    EXPECT_EQ(row.since_opset, 1) << row.name;
    ++count;
  }
  EXPECT_GT(count, 30);
}

TEST(Composite, IsLookedUpByDomain) {
  Graph g;
  EXPECT_EQ(FindComposite(*g.AddNode({.op = "Gelu"})), nullptr);
  EXPECT_EQ(FindComposite(*g.AddNode({.op = "Gelu", .domain = "org.example"})), nullptr);
}

// Two columns of three weights in blocks of two: the last block is half empty.
TEST(MatMulNBits, EightBitsCountFromTheMiddle) {
  const Attributes sizes = {
      {"K", int64_t{3}}, {"N", int64_t{2}}, {"block_size", int64_t{2}}, {"bits", int64_t{8}}};
  const Tensor weights = U8({2, 2, 2}, {128, 130, 0, 7, 255, 129, 127, 9});
  const Tensor scales = F({4}, {1, 0.5, 2, 4});
  // Column 0 is {0, 2, -64}, column 1 is {254, 2, -4}.
  HT_ASSERT_OK_AND_ASSIGN(
      const auto y, RunMicrosoft("MatMulNBits", {F({1, 3}, {1, 10, 100}), weights, scales}, sizes));
  EXPECT_EQ(y[0].shape(), Shape({1, 2}));
  EXPECT_THAT(y[0].data<float>(), ElementsAre(-6380, -126));
}

TEST(MatMulNBits, EightBitsCountFromTheirZeroPoints) {
  const Attributes sizes = {
      {"K", int64_t{3}}, {"N", int64_t{2}}, {"block_size", int64_t{2}}, {"bits", int64_t{8}}};
  const Tensor weights = U8({2, 2, 2}, {128, 130, 0, 7, 255, 129, 127, 9});
  const Tensor scales = F({4}, {1, 0.5, 2, 4}), zeros = U8({4}, {100, 2, 255, 127});
  // Column 0 is {28, 30, -1}, column 1 is {0, -252, 0}; the bias is {0.5, 1}.
  HT_ASSERT_OK_AND_ASSIGN(const auto y, RunMicrosoft("MatMulNBits",
                                                     {F({1, 3}, {1, 10, 100}), weights, scales,
                                                      zeros, kAbsent, F({2}, {0.5, 1})},
                                                     sizes));
  EXPECT_THAT(y[0].data<float>(), ElementsAre(228.5, -2519));
}

TEST(QLinearAdd, KeepsTheElementTypeWithoutZeroPoints) {
  // 0.5·{-4, 10} + 0.25·{8, 100} = {0, 30}; steps of 0.25 saturate at 127.
  HT_ASSERT_OK_AND_ASSIGN(
      const auto y,
      RunMicrosoft("QLinearAdd", {I8({2}, {-4, 10}), F({}, {0.5}), kAbsent, I8({2}, {8, 100}),
                                  F({}, {0.25}), kAbsent, F({}, {0.25})}));
  ASSERT_EQ(y[0].type(), DataType::kI8);
  EXPECT_THAT(y[0].data<int8_t>(), ElementsAre(0, 120));
}

TEST(Attention, OneHeadByHand) {
  // Weights of identity for q, k and v: two tokens, mask keeps the first alone.
  const Tensor x = F({1, 2, 1}, {1, 3}), w = F({1, 3}, {1, 1, 1}), bias = F({3}, {0, 0, 0});
  const Tensor mask = Tensor::Of<int32_t>({1, 2}, {1, 0});
  HT_ASSERT_OK_AND_ASSIGN(
      const auto y, RunMicrosoft("Attention", {x, w, bias, mask}, {{"num_heads", int64_t{1}}}));
  EXPECT_EQ(y[0].shape(), Shape({1, 2, 1}));
  EXPECT_THAT(y[0].data<float>(), ElementsAre(1, 1));
}

TEST(Composite, VariationsWithoutABodyAreNamed) {
  const Tensor x = F({1, 2, 4}, {1, 2, 3, 4, 5, 6, 7, 8});
  EXPECT_THAT(RunMicrosoft("MultiHeadAttention", {x}, {{"num_heads", int64_t{1}}}),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("packed")));
  EXPECT_THAT(RunMicrosoft("FusedGemm", {F({1, 1}, {1}), F({1, 1}, {1})},
                           {{"activation", std::string("Affine")}}),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("Affine")));
  EXPECT_THAT(
      RunMicrosoft(
          "MatMulNBits", {F({1, 2}, {1, 2}), U8({1, 1, 1}, {0}), F({1}, {1})},
          {{"K", int64_t{2}}, {"N", int64_t{1}}, {"block_size", int64_t{2}}, {"bits", int64_t{2}}}),
      StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("bits is 2")));
}

TEST(Composite, WhatAFileGetsWrongIsAnError) {
  const Tensor x = F({1, 2, 3}, {1, 2, 3, 4, 5, 6});
  const auto is_invalid = StatusIs(absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(RunMicrosoft("Attention", {x, F({3, 3}, {1, 0, 0, 0, 1, 0, 0, 0, 1})}), is_invalid);
  EXPECT_THAT(RunMicrosoft("Attention", {x, F({3, 3}, {1, 0, 0, 0, 1, 0, 0, 0, 1})},
                           {{"num_heads", int64_t{2}}}),
              is_invalid);
  EXPECT_THAT(RunMicrosoft("EmbedLayerNormalization", {I({1, 1}, {0})}), is_invalid);
  EXPECT_THAT(RunMicrosoft("QLinearConcat", {F({}, {1}), U8({}, {0}), U8({1}, {1})}), is_invalid);
  EXPECT_THAT(RunMicrosoft("BiasGelu", {x, U8({3}, {1, 2, 3})}), is_invalid);
  EXPECT_THAT(
      RunMicrosoft("MatMulNBits", {F({1, 2}, {1, 2}), U8({1, 1, 1}, {0}), F({1}, {1}), F({1}, {8})},
                   {{"K", int64_t{2}}, {"N", int64_t{1}}, {"block_size", int64_t{1} << 36}}),
      is_invalid);
  const int64_t huge = int64_t{1} << 62;
  EXPECT_THAT(RunMicrosoft("MatMulNBits", {F({1, 2}, {1, 2}), U8({1, 1, 1}, {0}), F({1}, {1})},
                           {{"K", huge}, {"N", huge}, {"block_size", int64_t{32}}}),
              is_invalid);
  EXPECT_THAT(
      RunMicrosoft("MatMulNBits", {F({1, 2}, {1, 2}), U8({1, 1, 1}, {0}), F({1}, {1})},
                   {{"K", int64_t{1} << 30}, {"N", int64_t{4}}, {"block_size", int64_t{32}}}),
      is_invalid);
}

}  // namespace
}  // namespace halftone
