#include "core/variant/weight_histogram.h"

#include <cmath>
#include <numeric>

#include "core/variant/build_variant.h"
#include "tests/testing/status_matchers.h"
#include "tests/unit/variant/variant_test_util.h"

namespace halftone {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

int64_t Sum(const std::vector<int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

TEST(CountWeights, CountsBothOverTheRangeOfBoth) {
  const float fp32[] = {-1, 0, 0.99f, 3}, variant[] = {-1, 0.5f, 1, 3};
  const WeightHistogram h = CountWeights(fp32, variant);
  EXPECT_EQ(h.min, -1);
  EXPECT_EQ(h.max, 3);  // 16 bins to the unit
  ASSERT_THAT(h.fp32, SizeIs(kHistogramBins));
  EXPECT_EQ(h.fp32[0], 1);
  EXPECT_EQ(h.fp32[16], 1);
  EXPECT_EQ(h.fp32[31], 1);
  EXPECT_EQ(h.fp32[63], 1);
  EXPECT_EQ(h.variant[24], 1);
  EXPECT_EQ(h.variant[32], 1);
  EXPECT_EQ(Sum(h.fp32), 4);
  EXPECT_EQ(Sum(h.variant), 4);
}

TEST(CountWeights, OneValueAndNoneAreFine) {
  const float same[] = {2, 2}, none[] = {NAN, HUGE_VALF};
  EXPECT_EQ(Sum(CountWeights(same, same).fp32), 2);
  EXPECT_THAT(CountWeights(none, none).fp32, IsEmpty());
  EXPECT_EQ(Sum(CountWeights(none, same).fp32), 0);
}

// What widens the weights again differs from form to form; the counts are those of what computes.
TEST(HistogramOf, CountsTheWeightsThatTheVariantComputesWith) {
  const Graph fp32 = ClassifierNet();
  const SampleSet samples = RealSamples(4);
  for (const char* spec : {"int8/per-channel/static", "int8/per-tensor/dynamic", "fp16"}) {
    SCOPED_TRACE(spec);
    HT_ASSERT_OK_AND_ASSIGN(const BuiltVariant built,
                            BuildVariant(fp32, QuantSpec::Parse(spec).value(),
                                         {.samples = &samples, .runner = ReferenceRunner()}));
    ASSERT_THAT(built.report.layers, SizeIs(2));
    for (const LayerReport& l : built.report.layers) {
      EXPECT_EQ(Sum(l.weights.fp32), Sum(l.weights.variant));
    }
    EXPECT_EQ(Sum(built.report.layers[0].weights.fp32), 8 * 27);
    EXPECT_EQ(Sum(built.report.layers[1].weights.fp32), 128 * 10);
  }
}

TEST(HistogramOf, FloatLayersHaveNone) {
  const Graph fp32 = ClassifierNet();
  HT_ASSERT_OK_AND_ASSIGN(const BuiltVariant built,
                          BuildVariant(fp32, QuantSpec::Parse("fp16;op=Conv=fp32").value(),
                                       {.runner = ReferenceRunner()}));
  EXPECT_THAT(built.report.layers[0].weights.fp32, IsEmpty());
  EXPECT_THAT(built.report.layers[1].weights.fp32, SizeIs(kHistogramBins));
}

}  // namespace
}  // namespace halftone
