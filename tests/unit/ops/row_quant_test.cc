// Rows quantized with scales of their own, by hand.
#include "core/ops/row_quant.h"

#include <limits>
#include <string>
#include <vector>

#include "core/base/status_macros.h"
#include "core/ops/unpack.h"
#include "tests/unit/ops/ops_testing.h"

namespace halftone {
namespace {

using ::testing::HasSubstr;

// Outputs: codes, scale, zero point.
absl::StatusOr<std::vector<Tensor>> Quantized(const Tensor& x) {
  Graph g("rows");
  g.opsets()[""] = 13;
  g.opsets()[std::string(kHalftoneDomain)] = kHalftoneOpset;
  Node* node = g.AddNode({.op = std::string(kDynamicQuantizeRows),
                          .domain = std::string(kHalftoneDomain),
                          .name = "n",
                          .inputs = {g.AddInput("x", {x.type(), Symbolic(x.shape())})},
                          .outputs = {"q", "s", "z"}});
  for (Value* out : node->outputs()) g.AddOutput(out);
  HT_RETURN_IF_ERROR(InferShapes(g));
  return EvaluateGraph(g, {x});
}

absl::StatusOr<std::vector<Tensor>> Dequantized(const Tensor& q, const Tensor& s, const Tensor& z) {
  Graph g("rows");
  g.opsets()[""] = 13;
  g.opsets()[std::string(kHalftoneDomain)] = kHalftoneOpset;
  std::vector<Value*> inputs;
  for (const auto& [name, t] : {std::pair("q", q), std::pair("s", s), std::pair("z", z)}) {
    inputs.push_back(g.AddInput(name, {t.type(), Symbolic(t.shape())}));
  }
  g.AddOutput(g.AddNode({.op = std::string(kDequantizeRows),
                         .domain = std::string(kHalftoneDomain),
                         .name = "n",
                         .inputs = inputs,
                         .outputs = {"y"}})
                  ->output(0));
  HT_RETURN_IF_ERROR(InferShapes(g));
  return EvaluateGraph(g, {q, s, z});
}

TEST(DynamicQuantizeRows, EachRowHasItsScaleAndZeroPoint) {
  // [0, 255]: step 1, zero at 0. [-51, 204]: step 1, zero at 51; 0.5 rounds to even. The third
  // lies below 0 and is widened to contain it: [-510, 0].
  const Tensor x = Tensor::Of<float>({3, 3}, {0, 100, 255, -51, 0.5f, 204, -510, -4, -2});
  HT_ASSERT_OK_AND_ASSIGN(const auto y, Quantized(x));
  ExpectSame(y[0], Tensor::Of<uint8_t>({3, 3}, {0, 100, 255, 0, 51, 255, 0, 253, 254}), 0);
  ExpectSame(y[1], Tensor::Of<float>({3, 1}, {1, 1, 2}), 0);
  ExpectSame(y[2], Tensor::Of<uint8_t>({3, 1}, {0, 51, 255}), 0);
}

TEST(DynamicQuantizeRows, RowsOfZerosAndNansAreHarmless) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  HT_ASSERT_OK_AND_ASSIGN(const auto y, Quantized(Tensor::Of<float>({2, 2}, {0, 0, nan, 255})));
  EXPECT_GT(y[1].data<float>()[0], 0);
  EXPECT_EQ(y[0].data<uint8_t>()[0], y[2].data<uint8_t>()[0]);
  EXPECT_EQ(y[0].data<uint8_t>()[2], y[2].data<uint8_t>()[1]) << "NaN becomes the zero point";
  EXPECT_EQ(y[0].data<uint8_t>()[3], 255);
}

TEST(DequantizeRows, IsScaleTimesDifference) {
  HT_ASSERT_OK_AND_ASSIGN(const auto y,
                          Dequantized(Tensor::Of<uint8_t>({2, 1, 2}, {0, 255, 10, 20}),
                                      Tensor::Of<float>({2, 1, 1}, {0.5f, 2}),
                                      Tensor::Of<uint8_t>({2, 1, 1}, {55, 10})));
  ExpectSame(y[0], Tensor::Of<float>({2, 1, 2}, {-27.5f, 100, 0, 20}), 0);
}

TEST(DequantizeRows, WantsAScaleForEachRow) {
  EXPECT_THAT(
      Dequantized(Tensor::Of<uint8_t>({2, 2}, {1, 2, 3, 4}), Tensor::Of<float>({3, 1}, {1, 1, 1}),
                  Tensor::Of<uint8_t>({3, 1}, {0, 0, 0}))
          .status(),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("n")));
}

}  // namespace
}  // namespace halftone
