// Sampling, detection, patches and image files, worked out by hand.
#include <gmock/gmock.h>

#include <string>

#include "tests/testing/status_matchers.h"
#include "tests/unit/ops/ops_testing.h"

namespace halftone {
namespace {

using testing::Not;

using Ints = std::vector<int64_t>;

const Tensor kSquare = F({1, 1, 2, 2}, {1, 2, 3, 4});
const Tensor kNine = F({1, 1, 3, 3}, {1, 2, 3, 4, 5, 6, 7, 8, 9});
const Tensor kAbsent;

class VisionCase : public testing::TestWithParam<NodeCase> {};
TEST_P(VisionCase, GivesTheExpectedOutputs) { ExpectOutputs(GetParam()); }
std::string CaseName(const testing::TestParamInfo<NodeCase>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(
    GridSample, VisionCase,
    testing::Values(
        NodeCase{"TheMiddleIsTheMean",
                 "GridSample",
                 16,
                 {},
                 {kSquare, F({1, 1, 2, 2}, {0, 0, -1, -1})},
                 {F({1, 1, 1, 2}, {2.5, 0.25})}},
        NodeCase{"BordersRepeat",
                 "GridSample",
                 16,
                 {{"padding_mode", std::string("border")}},
                 {kSquare, F({1, 1, 2, 2}, {-1, -1, 9, 9})},
                 {F({1, 1, 1, 2}, {1, 4})}},
        NodeCase{"BordersMirrorOneAxis",  // position 4 of [-0.5, 2.5] is 1
                 "GridSample",
                 20,
                 {{"padding_mode", std::string("reflection")}, {"mode", std::string("nearest")}},
                 {F({1, 1, 3}, {1, 2, 3}), F({1, 2, 1}, {2, 0})},
                 {F({1, 1, 2}, {2, 2})}},
        NodeCase{"CubicMeetsThePixels",
                 "GridSample",
                 22,
                 {{"align_corners", int64_t{1}}, {"mode", std::string("cubic")}},
                 {kNine, F({1, 1, 2, 2}, {0, 0, 1, 0})},
                 {F({1, 1, 1, 2}, {5, 6})},
                 1e-6f},
        NodeCase{"CubicPadsItsNeighbours",  // weights of position 2.5: -3/32, 19/32, 19/32, -3/32
                 "GridSample",
                 20,
                 {{"padding_mode", std::string("border")},
                  {"align_corners", int64_t{1}},
                  {"mode", std::string("cubic")}},
                 {F({1, 1, 3}, {0, 32, 64}), F({1, 1, 1}, {1.5})},
                 {F({1, 1, 1}, {67})},
                 1e-4f},
        NodeCase{"ThreeAxes",
                 "GridSample",
                 20,
                 {},
                 {F({1, 1, 2, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 8}), F({1, 1, 1, 1, 3}, {0, 0, 0})},
                 {F({1, 1, 1, 1, 1}, {4.5})}}),
    CaseName);

INSTANTIATE_TEST_SUITE_P(
    DeformConv, VisionCase,
    testing::Values(NodeCase{"WithoutOffsetsItIsAConvolution",
                             "DeformConv",
                             19,
                             {},
                             {kNine, F({1, 1, 2, 2}, {1, 1, 1, 1}),
                              Tensor::Of<float>({1, 8, 2, 2}, std::vector<float>(32))},
                             {F({1, 1, 2, 2}, {12, 16, 24, 28})}},
                    NodeCase{"HalfARowDownWithBiasAndMask",
                             "DeformConv",
                             22,
                             {},
                             {kNine, F({1, 1, 1, 1}, {2}),
                              F({1, 2, 3, 3},
                                {.5, .5, .5, .5, .5, .5, .5, .5, .5, 0, 0, 0, 0, 0, 0, 0, 0, 0}),
                              F({1}, {1}), F({1, 1, 3, 3}, {1, 1, 1, 1, 1, 1, 1, 1, 0})},
                             {F({1, 1, 3, 3}, {6, 8, 10, 12, 14, 16, 8, 9, 1})}}),
    CaseName);

INSTANTIATE_TEST_SUITE_P(
    Detection, VisionCase,
    testing::Values(NodeCase{"HalfPixelRegions",
                             "RoiAlign",
                             16,
                             {{"sampling_ratio", int64_t{1}}},
                             {kSquare, F({1, 4}, {0, 0, 2, 2}), I({1}, {0})},
                             {F({1, 1, 1, 1}, {2.5})}},
                    NodeCase{"OldRegions",
                             "RoiAlign",
                             10,
                             {{"sampling_ratio", int64_t{1}}},
                             {kSquare, F({1, 4}, {0, 0, 2, 2}), I({1}, {0})},
                             {F({1, 1, 1, 1}, {4})}},
                    NodeCase{"MaximumOfARegion",
                             "MaxRoiPool",
                             7,
                             {{"pooled_shape", Ints{1, 2}}},
                             {kNine, F({1, 5}, {0, 0, 0, 1, 2})},
                             {F({1, 1, 1, 2}, {7, 8})}},
                    NodeCase{
                        "OverlappingBoxesAreSuppressed",  // 0.9 of 1.1 in common
                        "NonMaxSuppression",
                        11,
                        {},
                        {F({1, 3, 4}, {0, 0, 1, 1, 0, .1f, 1, 1.1f, 0, 10, 1, 11}),
                         F({1, 1, 3}, {.9f, .75f, .6f}), I({1}, {3}), F({1}, {.5f}), F({1}, {.1f})},
                        {I({2, 3}, {0, 0, 0, 0, 0, 2})}},
                    NodeCase{"CenteredBoxes",
                             "NonMaxSuppression",
                             11,
                             {{"center_point_box", int64_t{1}}},
                             {F({1, 2, 4}, {.5f, .5f, 1, 1, .5f, .5f, 1, 1}),
                              F({1, 1, 2}, {.1f, .9f}), I({}, {2}), F({}, {.5f})},
                             {I({1, 3}, {0, 0, 1})}},
                    NodeCase{"NoBoxesWithoutALimit",
                             "NonMaxSuppression",
                             10,
                             {},
                             {F({1, 1, 4}, {0, 0, 1, 1}), F({1, 1, 1}, {.9f})},
                             {I({0, 3}, {})}}),
    CaseName);

INSTANTIATE_TEST_SUITE_P(
    Patches, VisionCase,
    testing::Values(NodeCase{"OverlapsAddUp",
                             "Col2Im",
                             18,
                             {},
                             {F({1, 2, 2}, {1, 2, 10, 20}), I({1}, {3}), I({1}, {2})},
                             {F({1, 1, 3}, {1, 12, 20})}},
                    NodeCase{"FlagsAddUpToFlags",
                             "Col2Im",
                             18,
                             {},
                             {B({1, 2, 2}, {true, false, true, false}), I({1}, {3}), I({1}, {2})},
                             {B({1, 1, 3}, {true, true, false})}},
                    NodeCase{"OneBlockIsTheImage",
                             "Col2Im",
                             18,
                             {},
                             {F({1, 4, 1}, {1, 2, 3, 4}), I({2}, {2, 2}), I({2}, {2, 2})},
                             {kSquare}},
                    NodeCase{"CropsTheMiddle",
                             "CenterCropPad",
                             18,
                             {},
                             {I({3}, {1, 2, 3}), I({1}, {2})},
                             {I({2}, {1, 2})}},
                    NodeCase{"PadsAround",
                             "CenterCropPad",
                             18,
                             {{"axes", Ints{-1}}},
                             {I({1, 2}, {1, 2}), I({1}, {5})},
                             {I({1, 5}, {0, 1, 2, 0, 0})}},
                    NodeCase{"UnpoolingPutsMaximaBack",
                             "MaxUnpool",
                             11,
                             {{"kernel_shape", Ints{2}}, {"strides", Ints{2}}},
                             {F({1, 1, 2}, {5, 7}), I({1, 1, 2}, {1, 2})},
                             {F({1, 1, 4}, {0, 5, 7, 0})}},
                    NodeCase{"UnpoolingIntoAGivenShape",
                             "MaxUnpool",
                             9,
                             {{"kernel_shape", Ints{2}}, {"strides", Ints{2}}},
                             {F({1, 1, 1}, {5}), I({1, 1, 1}, {2}), I({3}, {1, 1, 3})},
                             {F({1, 1, 3}, {0, 0, 5})}}),
    CaseName);

TEST(Vision, RefusesWhatMakesNoSense) {
  const auto run = [](const NodeCase& c) { return Evaluate(c).status(); };
  const Tensor roi = F({1, 4}, {0, 0, 2, 2});
  EXPECT_THAT(run({"", "RoiAlign", 16, {}, {kSquare, roi, I({1}, {1})}}), Not(IsOk()));
  EXPECT_THAT(run({"", "RoiAlign", 16, {}, {kSquare, F({1, 4}, {0, 0, 1e30f, 2}), I({1}, {0})}}),
              Not(IsOk()));
  EXPECT_THAT(run({"", "RoiAlign", 16, {}, {kSquare, F({1, 4}, {0, 0, 1e8f, 1e8f}), I({1}, {0})}}),
              Not(IsOk()));
  EXPECT_THAT(run({"",
                   "MaxUnpool",
                   11,
                   {{"kernel_shape", Ints{2}}},
                   {F({1, 1, 1}, {5}), I({1, 1, 1}, {2})}}),
              Not(IsOk()));
  EXPECT_THAT(run({"", "GridSample", 16, {{"mode", std::string("linear")}}, {kSquare, kSquare}}),
              Not(IsOk()));
  EXPECT_THAT(run({"", "Col2Im", 18, {}, {F({1, 2, 2}, {1, 2, 3, 4}), I({1}, {4}), I({1}, {2})}}),
              Not(IsOk()));
}

// --- image files ---------------------------------------------------------------------------------

Tensor File(const std::string& bytes) {
  return Tensor::Of<uint8_t>(
      {static_cast<int64_t>(bytes.size())},
      absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()));
}

NodeCase Decoder(const std::string& format, const std::string& bytes) {
  return {"", "ImageDecoder", 20, {{"pixel_format", format}}, {File(bytes)}};
}

// A BMP of 1 x 2 pixels: the lower row comes first, and blue.
std::string Bmp(const std::string& pixels) {
  const auto number = [](uint32_t v) { return std::string(reinterpret_cast<const char*>(&v), 4); };
  return "BM" + number(62) + number(0) + number(54) + number(40) + number(1) + number(2) +
         number(1 | 24 << 16) + number(0) + std::string(20, '\0') + pixels;
}

TEST(ImageDecoder, ReadsPnmAndBmp) {
  NodeCase c = Decoder("RGB", "P6\n# two\n2 1\n255\nabcdef");
  c.outputs = {U8({1, 2, 3}, {'a', 'b', 'c', 'd', 'e', 'f'})};
  ExpectOutputs(c);
  c = Decoder("BGR", "P6 1 1 255\nabc");
  c.outputs = {U8({1, 1, 3}, {'c', 'b', 'a'})};
  ExpectOutputs(c);
  c = Decoder("Grayscale", "P5 1 1 255\nx");
  c.outputs = {U8({1, 1, 1}, {'x'})};
  ExpectOutputs(c);
  c = Decoder("RGB", Bmp(std::string("\1\2\3\0\4\5\6\0", 8)));
  c.outputs = {U8({2, 1, 3}, {6, 5, 4, 3, 2, 1})};
  ExpectOutputs(c);
}

TEST(ImageDecoder, RefusesWhatIsNoImage) {
  const auto run = [](const std::string& bytes) {
    return Evaluate(Decoder("RGB", bytes)).status();
  };
  using testing::HasSubstr;
  EXPECT_THAT(run("x"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no JPEG")));
  EXPECT_THAT(run("GIF89a"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no JPEG")));
  EXPECT_THAT(run("P6 2 1 255\nabc"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("cut off")));
  EXPECT_THAT(run("P6 100000 100000 255\nabc"),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("limit")));
  EXPECT_THAT(run(Bmp("abc")), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("cut off")));
  for (const char* magic : {"\xff\xd8\xff\xe0", "\x89PNG\r\n\x1a\n", "RIFF1234WEBPVP8 ",
                            "\xff\x4f\xff\x51", "II*", "BM", "P6", "P5 -1"}) {
    EXPECT_THAT(run(magic), Not(IsOk())) << magic;
  }
  EXPECT_THAT(Evaluate(Decoder("CMYK", "P5 1 1 255\nx")).status(), Not(IsOk()));
}

}  // namespace
}  // namespace halftone
