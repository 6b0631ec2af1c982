// Signals, worked out by hand.
#include <gmock/gmock.h>

#include "tests/testing/status_matchers.h"
#include "tests/unit/ops/ops_testing.h"

namespace halftone {
namespace {

using testing::Not;

constexpr float kHalfRoot3 = 0.8660254f;
const Tensor kAbsent;

class SignalCase : public testing::TestWithParam<NodeCase> {};
TEST_P(SignalCase, GivesTheExpectedOutputs) { ExpectOutputs(GetParam()); }

INSTANTIATE_TEST_SUITE_P(
    Signal, SignalCase,
    testing::Values(NodeCase{"AnImpulseHasAFlatSpectrum",
                             "DFT",
                             17,
                             {},
                             {F({1, 4, 1}, {1, 0, 0, 0})},
                             {F({1, 4, 2}, {1, 0, 1, 0, 1, 0, 1, 0})},
                             1e-6f},
                    NodeCase{"ThreeIsNoPowerOfTwo",
                             "DFT",
                             20,
                             {},
                             {F({3, 1}, {1, 2, 3})},
                             {F({3, 2}, {6, 0, -1.5, kHalfRoot3, -1.5, -kHalfRoot3})},
                             1e-5f},
                    NodeCase{"TheInverseGivesTheSignalBack",
                             "DFT",
                             20,
                             {{"inverse", int64_t{1}}},
                             {F({3, 2}, {6, 0, -1.5, kHalfRoot3, -1.5, -kHalfRoot3})},
                             {F({3, 2}, {1, 0, 2, 0, 3, 0})},
                             1e-5f},
                    NodeCase{"AShorterLengthCutsTheSignal",
                             "DFT",
                             17,
                             {{"onesided", int64_t{1}}},
                             {F({1, 4, 1}, {1, 2, 3, 4}), I({}, {2})},
                             {F({1, 2, 2}, {3, 0, -1, 0})},
                             1e-6f},
                    NodeCase{"ALongerLengthPadsIt",
                             "DFT",
                             20,
                             {},
                             {F({1, 1}, {5}), I({}, {2}), I({}, {0})},
                             {F({2, 2}, {5, 0, 5, 0})},
                             1e-6f},
                    NodeCase{"AnyAxisButTheLast",
                             "DFT",
                             17,
                             {{"axis", int64_t{0}}},
                             {F({2, 2, 1}, {1, 2, 3, 5})},
                             {F({2, 2, 2}, {4, 0, 7, 0, -2, 0, -3, 0})},
                             1e-6f},
                    NodeCase{"FramesAreWindowed",
                             "STFT",
                             17,
                             {},
                             {F({1, 5, 1}, {1, 2, 3, 4, 9}), I({}, {2}), F({2}, {1, 0.5f})},
                             {F({1, 2, 2, 2}, {2, 0, 0, 0, 5, 0, 1, 0})},
                             1e-6f},
                    NodeCase{"FramesNeedNoWindow",
                             "STFT",
                             17,
                             {{"onesided", int64_t{0}}},
                             {F({1, 4, 1}, {1, 2, 3, 4}), I({}, {2}), kAbsent, I({}, {2})},
                             {F({1, 2, 2, 2}, {3, 0, -1, 0, 7, 0, -1, 0})},
                             1e-6f},
                    NodeCase{"ATriangleOverThreeBins",  // its edges are the bins 0, 1 and 2
                             "MelWeightMatrix",
                             17,
                             {},
                             {I({}, {1}), I({}, {8}), I({}, {8}), F({}, {0}), F({}, {4})},
                             {F({5, 1}, {0, 1, 0, 0, 0})}}),
    [](const auto& info) { return info.param.name; });

TEST(Signal, RefusesWhatMakesNoSense) {
  const Tensor real = F({1, 4, 1}, {1, 2, 3, 4}), complex = F({1, 2, 2}, {1, 2, 3, 4});
  const auto run = [](const NodeCase& c) { return Evaluate(c).status(); };
  EXPECT_THAT(run({"", "DFT", 17, {{"axis", int64_t{2}}}, {real}}), Not(IsOk()));
  EXPECT_THAT(run({"", "DFT", 17, {{"onesided", int64_t{1}}}, {complex}}), Not(IsOk()));
  EXPECT_THAT(run({"", "DFT", 17, {}, {real, I({}, {0})}}), Not(IsOk()));
  EXPECT_THAT(run({"", "DFT", 17, {}, {real, I({}, {int64_t{1} << 40})}}), Not(IsOk()));
  EXPECT_THAT(run({"", "STFT", 17, {}, {real, I({}, {2})}}), Not(IsOk()));
  EXPECT_THAT(run({"", "STFT", 17, {}, {real, I({}, {2}), kAbsent, I({}, {9})}}), Not(IsOk()));
  EXPECT_THAT(run({"",
                   "MelWeightMatrix",
                   17,
                   {},
                   {I({}, {4}), I({}, {8}), I({}, {8}), F({}, {0}), F({}, {1e6f})}}),
              Not(IsOk()));
}

}  // namespace
}  // namespace halftone
