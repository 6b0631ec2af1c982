#include <gmock/gmock.h>

#include "core/passes/portable.h"
#include "tests/unit/passes/pass_testing.h"

namespace halftone {
namespace {

struct Case {
  std::string name;
  std::string net;
  std::string ops;  // what is left
  int opset = 17;
};

class FoldPadCase : public testing::TestWithParam<Case> {};

TEST_P(FoldPadCase, KeepsTheMeaning) {
  EXPECT_EQ(OpsOf(RunPass(LoadText(GetParam().net, GetParam().opset), FoldPad)), GetParam().ops);
}

std::string PadThen(absl::string_view node, absl::string_view pads = "0, 0, 1, 2, 0, 0, 1, 0",
                    absl::string_view pad = "Pad(x, p)") {
  return absl::StrCat("net (float[1, 2, 5, 5] x) => (float[N, C, H, W] y) <int64[8] p = {", pads,
                      "}, float one = {1}, float[1, 2, 3, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, "
                      "3, 4, 5, 6, 7, 8, 9}> { q = ",
                      pad, " y = ", node, " }");
}

INSTANTIATE_TEST_SUITE_P(
    Portable, FoldPadCase,
    testing::Values(
        Case{"Conv", PadThen("Conv(q, w)"), "Conv"},
        Case{"ConvWithPadsOfItsOwn", PadThen("Conv<pads = [1, 0, 0, 2]>(q, w)"), "Conv"},
        Case{"ConvValid", PadThen("Conv<auto_pad = \"VALID\">(q, w)"), "Conv"},
        Case{"ConvSameStays", PadThen("Conv<auto_pad = \"SAME_UPPER\">(q, w)"), "Pad Conv"},
        Case{"OldPad",
             PadThen("Conv(q, w)", "0, 0, 0, 0, 0, 0, 0, 0",
                     "Pad<pads = [0, 0, 1, 1, 0, 0, 1, 1]>(x)"),
             "Conv", 10},
        Case{"OnesStay", PadThen("Conv(q, w)", "0, 0, 1, 1, 0, 0, 1, 1", "Pad(x, p, one)"),
             "Pad Conv"},
        Case{"ReflectionStays",
             PadThen("Conv(q, w)", "0, 0, 1, 1, 0, 0, 1, 1", "Pad<mode = \"reflect\">(x, p)"),
             "Pad Conv"},
        Case{"CroppingStays", PadThen("Conv(q, w)", "0, 0, 1, -1, 0, 0, 0, 0"), "Pad Conv"},
        Case{"MaxPoolStays", PadThen("MaxPool<kernel_shape = [3, 3]>(q)"), "Pad MaxPool"},
        Case{"AveragePool", PadThen("AveragePool<kernel_shape = [3, 3]>(q)"), "AveragePool"},
        Case{"AveragePoolThatLeavesItsPadsOutStays",
             PadThen("AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(q)"),
             "Pad AveragePool"}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace halftone
