// The operators of the domain "halftone".
#include "core/ops/unpack.h"

#include <string>
#include <vector>

#include "tests/unit/ops/ops_testing.h"

namespace halftone {
namespace {

using ::testing::HasSubstr;

Graph UnpackGraph(absl::string_view op, const Tensor& packed, std::vector<int64_t> shape) {
  Graph g("unpack");
  g.opsets()[""] = 13;
  g.opsets()[std::string(kHalftoneDomain)] = kHalftoneOpset;
  Node* node = g.AddNode({.op = std::string(op),
                          .domain = std::string(kHalftoneDomain),
                          .name = "n",
                          .inputs = {g.AddConstant("packed", packed)},
                          .outputs = {"y"},
                          .attributes = {{"shape", std::move(shape)}}});
  g.AddOutput(
      g.AddNode({.op = "Identity", .inputs = node->outputs(), .outputs = {"z"}})->output(0));
  return g;
}

TEST(Unpack, TernaryIsTwosComplementOfTwoBits) {
  const Tensor packed = Tensor::Of<uint8_t>({2}, {0b11010011, 0b01});
  HT_ASSERT_OK_AND_ASSIGN(const auto y,
                          EvaluateGraph(UnpackGraph(kUnpackTernary, packed, {1, 5}), {}));
  ExpectSame(y[0], Tensor::Of<int8_t>({1, 5}, {-1, 0, 1, -1, 1}), 0);
}

TEST(Unpack, BinaryHasNoZero) {
  const Tensor packed = Tensor::Of<uint8_t>({2}, {0b10000001, 0b1});
  HT_ASSERT_OK_AND_ASSIGN(const auto y,
                          EvaluateGraph(UnpackGraph(kUnpackBinary, packed, {3, 3}), {}));
  ExpectSame(y[0], Tensor::Of<int8_t>({3, 3}, {1, -1, -1, -1, -1, -1, -1, 1, 1}), 0);
}

TEST(Unpack, InferenceNeverFoldsIt) {
  Graph g = UnpackGraph(kUnpackTernary, Tensor::Of<uint8_t>({1}, {0}), {2, 2});
  HT_ASSERT_OK(InferShapes(g));
  ASSERT_EQ(g.nodes().size(), 2u);
  const ValueType type = g.nodes()[0]->output(0)->type();
  EXPECT_EQ(type.type, DataType::kI8);
  EXPECT_EQ(Concrete(type.shape), Shape({2, 2}));
}

TEST(Unpack, RefusesBytesThatDoNotFitTheShape) {
  Graph g = UnpackGraph(kUnpackBinary, Tensor::Of<uint8_t>({1}, {0}), {3, 3});
  EXPECT_THAT(InferShapes(g), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("want")));
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{-1, 2}, std::vector<int64_t>{int64_t{1} << 40, int64_t{1} << 40}}) {
    Graph bad = UnpackGraph(kUnpackTernary, Tensor::Of<uint8_t>({1}, {0}), shape);
    EXPECT_THAT(InferShapes(bad), StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

}  // namespace
}  // namespace halftone
