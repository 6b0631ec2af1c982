#include "core/store/calibration_io.h"

#include <gmock/gmock.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::HasSubstr;

Signature TwoInputs() {
  return {.inputs = {{.name = "image", .type = DataType::kF32, .shape = {Dim("n"), Dim(2)}},
                     {.name = "mask", .type = DataType::kI64, .shape = {Dim("n")}}}};
}

std::vector<Tensor> Sample(int64_t n, float value) {
  return {Tensor::Of<float>({n, 2}, std::vector<float>(2 * n, value)),
          Tensor::Of<int64_t>({n}, std::vector<int64_t>(n, 1))};
}

TEST(CheckSamples, AcceptsWhatFitsTheSignature) {
  HT_EXPECT_OK(CheckSamples(TwoInputs(), {Sample(1, 0), Sample(3, 1)}));
}

struct BadCase {
  std::string name;
  Samples samples;
  std::string message;
};

class CheckSamplesRejects : public ::testing::TestWithParam<BadCase> {};

TEST_P(CheckSamplesRejects, WithTheReason) {
  EXPECT_THAT(CheckSamples(TwoInputs(), GetParam().samples),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    Cases, CheckSamplesRejects,
    ::testing::Values(
        BadCase{"NoSample", {}, "at least one"},
        BadCase{"TooFewTensors", {{Sample(1, 0)[0]}}, "sample 0: got 1 tensors, want 2"},
        BadCase{"Type",
                {Sample(1, 0), {Tensor::Of<double>({1, 2}, {0, 0}), Sample(1, 0)[1]}},
                "sample 1: input 'image': wrong data type; got f64[1,2], want f32[n,2]"},
        BadCase{"Rank", {{Tensor::Of<float>({2}, {0, 0}), Sample(1, 0)[1]}}, "wrong rank"},
        BadCase{"FixedDimension",
                {{Tensor::Of<float>({1, 3}, {0, 0, 0}), Sample(1, 0)[1]}},
                "wrong dimension 1"},
        BadCase{"SymbolsDisagree", {{Sample(2, 0)[0], Sample(3, 0)[1]}}, "'n' is 2 elsewhere"}),
    [](const auto& info) { return info.param.name; });

TEST(DigestOf, DependsOnContentOnly) {
  const std::string digest = DigestOf({Sample(1, 0), Sample(2, 1)});
  EXPECT_EQ(digest, DigestOf({Sample(1, 0), Sample(2, 1)}));
  EXPECT_NE(digest, DigestOf({Sample(2, 1), Sample(1, 0)}));
  EXPECT_NE(digest, DigestOf({Sample(1, 0)}));
  EXPECT_NE(digest, DigestOf({Sample(1, 0), Sample(2, 2)}));
  EXPECT_NE(DigestOf({{Tensor::Of<float>({1, 2}, {0, 0})}}),
            DigestOf({{Tensor::Of<float>({2, 1}, {0, 0})}}));
}

TEST(Samples, ComeBackAlignedAndEqual) {
  const Samples samples = {Sample(1, 0.5f), Sample(3, -2)};
  std::string bytes;
  HT_ASSERT_OK_AND_ASSIGN(const nlohmann::json layout,
                          WriteSamples(samples, [&](absl::string_view chunk) {
                            bytes.append(chunk.data(), chunk.size());
                            return absl::OkStatus();
                          }));
  const std::shared_ptr<Buffer> buffer = Buffer::Allocate(bytes.size());
  std::memcpy(buffer->mutable_data(), bytes.data(), bytes.size());
  HT_ASSERT_OK_AND_ASSIGN(const Samples back, ReadSamples(layout, buffer));
  ASSERT_EQ(back.size(), 2u);
  EXPECT_EQ(DigestOf(back), DigestOf(samples));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(back[1][1].raw()) % Buffer::kAlignment, 0u);
  EXPECT_EQ(back[1][1].buffer(), buffer) << "views, not copies";
}

TEST(ReadSamples, RejectsALayoutThatDoesNotFit) {
  const std::shared_ptr<Buffer> buffer = Buffer::Allocate(8);
  for (const char* text : {R"([[{"type":"f32","shape":[3],"offset":0}]])", R"([[{"type":"f32"}]])",
                           R"([[{"type":"nonsense","shape":[1],"offset":0}]])",
                           R"([[{"type":"f32","shape":[-1],"offset":0}]])"}) {
    EXPECT_THAT(ReadSamples(nlohmann::json::parse(text), buffer),
                StatusIs(absl::StatusCode::kDataLoss))
        << text;
  }
}

}  // namespace
}  // namespace halftone
