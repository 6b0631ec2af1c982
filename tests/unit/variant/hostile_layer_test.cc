// One layer that 8-bit activations ruin: the report has to name it, and `best` to rescue it.
#include <gmock/gmock.h>

#include "core/base/status_macros.h"
#include "core/variant/build_variant.h"
#include "tests/testing/status_matchers.h"
#include "tests/unit/variant/variant_test_util.h"

namespace halftone {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr int kWidth = 32;

// MatMul calm → Tanh → Mul by 1000 in channel 7 → MatMul hostile, whose row 7 is a thousandth of
// the others → Relu → MatMul last. A scale for the whole of hostile's input leaves nothing of the
// other channels. No technique may move the factor away: between Tanh and Mul there is no layer.
Graph Net() {
  GraphMaker m;
  Tensor factor = Tensor::Of<float>({1, kWidth}, std::vector<float>(kWidth, 1));
  Tensor weights = RandomTensor({kWidth, kWidth}, 2);
  factor.mutable_data<float>()[7] = 1000;
  Tensor gentle = RandomTensor({kWidth, kWidth}, 1);  // keeps Tanh from saturating
  for (float& w : gentle.mutable_data<float>()) w /= 8;
  for (int i = 0; i < kWidth; ++i) weights.mutable_data<float>()[7 * kWidth + i] /= 1000;
  const Shape row = {1, kWidth};
  Value* calm = m.Node("MatMul", "calm", {m.Input("x", row), m.Constant("w1", gentle)}, row);
  Value* tanh = m.Node("Tanh", "tanh", {calm}, row);
  Value* loud = m.Node("Mul", "loud", {tanh, m.Constant("factor", factor)}, row);
  Value* hostile = m.Node("MatMul", "hostile", {loud, m.Constant("w2", weights)}, row);
  Value* relu = m.Node("Relu", "relu", {hostile}, row);
  m.Output(
      m.Node("MatMul", "last", {relu, m.Constant("w3", RandomTensor({kWidth, kWidth}, 3))}, row));
  return std::move(m.graph());
}

absl::StatusOr<VariantReport> Report(const std::string& spec) {
  SampleSet set{.name = "real", .digest = "d"};
  for (int i = 0; i < 32; ++i) set.samples.push_back({RandomTensor({1, kWidth}, 100 + i)});
  HT_ASSIGN_OR_RETURN(const BuiltVariant built,
                      BuildVariant(Net(), QuantSpec::Parse(spec).value(),
                                   {.features = {.avx2 = true, .avx512 = true, .vnni = true},
                                    .samples = &set,
                                    .measure_latency = false,
                                    .runner = ReferenceRunner()}));
  return built.report;
}

TEST(HostileLayer, TheReportNamesIt) {
  HT_ASSERT_OK_AND_ASSIGN(const VariantReport r, Report("int8/per-channel/static"));
  EXPECT_LT(r.sqnr_db, 15);
  ASSERT_EQ(r.layers.size(), 3);
  EXPECT_GT(r.layers[0].sqnr_db, 30) << "the layer before it is well";
  EXPECT_LT(r.layers[1].sqnr_db, 15);
  EXPECT_THAT(r.warnings, Contains(HasSubstr("n_hostile (")));
}

TEST(HostileLayer, MixedPrecisionRescuesIt) {
  HT_ASSERT_OK_AND_ASSIGN(const VariantReport r, Report("int8/per-channel/static/best"));
  EXPECT_THAT(r.notes, Contains(StartsWith("mixed precision: 1 of 3 layers stay bf16, the most "
                                           "sensitive first: n_hostile")));
  EXPECT_GE(r.sqnr_db, 25);
  EXPECT_THAT(r.layers[0].precision, "int8");
  EXPECT_THAT(r.layers[1].precision, HasSubstr("bf16"));
  EXPECT_THAT(r.layers[2].precision, "int8");
}

}  // namespace
}  // namespace halftone
