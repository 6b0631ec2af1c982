#include "server/tensor_codec.h"

#include <gmock/gmock.h>

#include <cstring>

#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using enum absl::StatusCode;

template <typename T>
std::string Bytes(std::initializer_list<T> values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  std::memcpy(bytes.data(), values.begin(), bytes.size());
  return bytes;
}

// x: f32[batch,2], y: i64[batch], flags: bool[3] → scores: f32[batch,2], count: i64[]
Signature ThreeInputs() {
  return {
      .inputs = {{"x", DataType::kF32, {Dim("batch"), 2}},
                 {"y", DataType::kI64, {Dim("batch")}},
                 {"flags", DataType::kBool, {3}}},
      .outputs = {{"scores", DataType::kF32, {Dim("batch"), 2}}, {"count", DataType::kI64, {}}}};
}

Signature OneInput() {
  return {.inputs = {{"x", DataType::kF32, {Dim("batch"), 2}}},
          .outputs = {{"y", DataType::kF32, {Dim("batch"), 2}}}};
}

class Decode : public testing::Test {
 protected:
  absl::StatusOr<std::vector<Tensor>> One(DataType type, std::vector<int64_t> shape,
                                          const std::string& bytes, absl::string_view name = "x") {
    const WireTensor wire{.name = name, .type = type, .shape = shape, .bytes = bytes};
    return DecodeInputs(OneInput(), {wire});
  }
};

TEST_F(Decode, BorrowsAlignedBytesOfTheRightType) {
  const std::string bytes = Bytes<float>({1, 2, 3, 4});
  HT_ASSERT_OK_AND_ASSIGN(const std::vector<Tensor> inputs, One(DataType::kF32, {2, 2}, bytes));
  EXPECT_EQ(static_cast<const void*>(inputs[0].raw()), bytes.data());
  EXPECT_THAT(inputs[0].data<float>(), ElementsAre(1, 2, 3, 4));
}

TEST_F(Decode, CopiesUnalignedBytes) {
  const std::string shifted = "?" + Bytes<float>({1, 2});
  const absl::string_view bytes = absl::string_view(shifted).substr(1);
  const int64_t shape[] = {1, 2};
  const WireTensor wire{.name = "x", .type = DataType::kF32, .shape = shape, .bytes = bytes};
  HT_ASSERT_OK_AND_ASSIGN(const std::vector<Tensor> inputs, DecodeInputs(OneInput(), {wire}));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(inputs[0].raw()) % alignof(float), 0u);
  EXPECT_THAT(inputs[0].data<float>(), ElementsAre(1, 2));
}

TEST_F(Decode, WidensHalvesAndBytesToFloat) {
  const std::string f16 = Bytes<uint16_t>({0x3c00, 0xc100});   // 1, -2.5
  const std::string bf16 = Bytes<uint16_t>({0x3f80, 0xc020});  // 1, -2.5
  const std::string u8 = Bytes<uint8_t>({0, 255});
  EXPECT_THAT((*One(DataType::kF16, {1, 2}, f16))[0].data<float>(), ElementsAre(1, -2.5));
  EXPECT_THAT((*One(DataType::kBF16, {1, 2}, bf16))[0].data<float>(), ElementsAre(1, -2.5));
  EXPECT_THAT((*One(DataType::kU8, {1, 2}, u8))[0].data<float>(), ElementsAre(0, 255));
}

TEST_F(Decode, AcceptsAnUnnamedOnlyInput) {
  EXPECT_THAT(One(DataType::kF32, {1, 2}, Bytes<float>({1, 2}), ""), IsOk());
}

TEST_F(Decode, PutsInputsInSignatureOrder) {
  const std::string x = Bytes<float>({1, 2});
  const std::string y = Bytes<int64_t>({7});
  const std::string flags = Bytes<uint8_t>({0, 1, 1});
  const int64_t x_shape[] = {1, 2}, y_shape[] = {1}, f_shape[] = {3};
  HT_ASSERT_OK_AND_ASSIGN(const std::vector<Tensor> inputs,
                          DecodeInputs(ThreeInputs(), {{"flags", DataType::kBool, f_shape, flags},
                                                       {"y", DataType::kI64, y_shape, y},
                                                       {"x", DataType::kF32, x_shape, x}}));
  ASSERT_THAT(inputs, SizeIs(3));
  EXPECT_THAT(inputs[0].data<float>(), ElementsAre(1, 2));
  EXPECT_THAT(inputs[1].data<int64_t>(), ElementsAre(7));
  EXPECT_THAT(inputs[2].data<bool>(), ElementsAre(false, true, true));
}

struct BadCase {
  std::string name;
  std::string input;
  DataType type;
  std::vector<int64_t> shape;
  size_t bytes;
  std::vector<std::string> message_parts;
};

class BadInput : public testing::TestWithParam<BadCase> {};

TEST_P(BadInput, IsRefusedWithItsCause) {
  const BadCase& c = GetParam();
  const std::string bytes(c.bytes, '\0');
  const WireTensor wire{.name = c.input, .type = c.type, .shape = c.shape, .bytes = bytes};
  const absl::Status status = DecodeInputs(OneInput(), {wire}).status();
  EXPECT_EQ(status.code(), kInvalidArgument);
  for (const std::string& part : c.message_parts) EXPECT_THAT(status.message(), HasSubstr(part));
}

constexpr int64_t kHuge = int64_t{1} << 62;

INSTANTIATE_TEST_SUITE_P(
    Wire, BadInput,
    testing::Values(
        BadCase{"Type", "x", DataType::kI64, {1, 2}, 16, {"'x'", "got type INT64", "want FP32"}},
        BadCase{"Rank", "x", DataType::kF32, {2}, 8, {"got rank 1", "want rank 2", "[batch,2]"}},
        BadCase{"FixedDim", "x", DataType::kF32, {1, 3}, 12, {"dimension 1 is 3", "want 2"}},
        BadCase{"NegativeDim", "x", DataType::kF32, {-1, 2}, 8, {"dimension 0 is -1"}},
        BadCase{"EmptyBatch", "x", DataType::kF32, {0, 2}, 0, {"dimension 0 is 0", "at least 1"}},
        BadCase{"TooFewBytes", "x", DataType::kF32, {1, 2}, 7, {"got 7 bytes", "want 8"}},
        BadCase{"TooManyBytes", "x", DataType::kF32, {1, 2}, 9, {"got 9 bytes", "want 8"}},
        BadCase{"NoBytes", "x", DataType::kF32, {1, 2}, 0, {"got 0 bytes", "want 8"}},
        BadCase{"Overflow", "x", DataType::kF32, {kHuge, 2}, 8, {"'x'"}},
        BadCase{"ByteOverflow", "x", DataType::kF32, {kHuge / 2, 2}, 8, {"'x'"}},
        BadCase{"HalfBytes", "x", DataType::kF16, {1, 2}, 8, {"got 8 bytes", "want 4 for FP16"}},
        BadCase{"Unknown", "z", DataType::kF32, {1, 2}, 8, {"'z'", "no such input", "'x'"}}),
    [](const auto& info) { return info.param.name; });

TEST(DecodeInputs, NamesAMissingInput) {
  EXPECT_THAT(DecodeInputs(OneInput(), {}),
              StatusIs(kInvalidArgument, AllOf(HasSubstr("'x'"), HasSubstr("missing"))));
}

TEST(DecodeInputs, RefusesAnInputThatComesTwice) {
  const std::string bytes(8, '\0');
  const int64_t shape[] = {1, 2};
  const WireTensor wire{.name = "x", .type = DataType::kF32, .shape = shape, .bytes = bytes};
  EXPECT_THAT(DecodeInputs(OneInput(), {wire, wire}),
              StatusIs(kInvalidArgument, HasSubstr("twice")));
}

TEST(DecodeInputs, RefusesSizesThatDisagreeAboutASymbol) {
  const std::string x(16, '\0'), y(24, '\0'), flags(3, '\0');
  const int64_t x_shape[] = {2, 2}, y_shape[] = {3}, f_shape[] = {3};
  EXPECT_THAT(DecodeInputs(ThreeInputs(), {{"x", DataType::kF32, x_shape, x},
                                           {"y", DataType::kI64, y_shape, y},
                                           {"flags", DataType::kBool, f_shape, flags}}),
              StatusIs(kInvalidArgument, AllOf(HasSubstr("'y'"), HasSubstr("('batch') is 3"),
                                               HasSubstr("want 2 as in input 'x'"))));
}

TEST(DecodeInputs, RefusesBytesThatAreNoBool) {
  const Signature signature{.inputs = {{"flags", DataType::kBool, {2}}}};
  const int64_t shape[] = {2};
  const std::string bytes("\1\2", 2);
  EXPECT_THAT(DecodeInputs(signature, {{"flags", DataType::kBool, shape, bytes}}),
              StatusIs(kInvalidArgument, HasSubstr("element 1 of a BOOL tensor is 2")));
}

TEST(PickOutputs, TakesAllByDefaultAndTheWantedInTheirOrder) {
  HT_ASSERT_OK_AND_ASSIGN(std::vector<OutputPick> picks, PickOutputs(ThreeInputs(), {}));
  ASSERT_THAT(picks, SizeIs(2));
  EXPECT_EQ(picks[0].type, DataType::kF32);
  HT_ASSERT_OK_AND_ASSIGN(picks,
                          PickOutputs(ThreeInputs(), {{"count", {}}, {"scores", DataType::kBF16}}));
  ASSERT_THAT(picks, SizeIs(2));
  EXPECT_EQ(picks[0].index, 1);
  EXPECT_EQ(picks[1].index, 0);
  EXPECT_EQ(picks[1].type, DataType::kBF16);
}

TEST(PickOutputs, RefusesUnknownNamesRepeatsAndWrongConversions) {
  EXPECT_THAT(PickOutputs(ThreeInputs(), {{"no", {}}}),
              StatusIs(kInvalidArgument, AllOf(HasSubstr("'no'"), HasSubstr("'scores'"))));
  EXPECT_THAT(PickOutputs(ThreeInputs(), {{"count", DataType::kF16}}),
              StatusIs(kInvalidArgument, HasSubstr("INT64")));
  EXPECT_THAT(PickOutputs(OneInput(), {{"y", {}}, {"y", {}}}), StatusIs(kInvalidArgument));
}

TEST(EncodeOutputs, RoundsToNearestEvenWhenNarrowing) {
  const Tensor t = Tensor::Of<float>({2}, {1.0f, 1.00390625f});  // 1 + 2^-8: a tie in bf16
  HT_ASSERT_OK_AND_ASSIGN(const std::vector<Tensor> out,
                          EncodeOutputs({OutputPick{.index = 0, .type = DataType::kBF16}}, {t}));
  EXPECT_EQ(out[0].data<BFloat16>()[0].bits, 0x3f80);
  EXPECT_EQ(out[0].data<BFloat16>()[1].bits, 0x3f80);
}

TEST(EncodeOutputs, FailsWhenThePlanGaveTooFew) {
  EXPECT_THAT(EncodeOutputs({OutputPick{.index = 1, .type = DataType::kF32}}, {Tensor()}),
              StatusIs(kInternal));
}

}  // namespace
}  // namespace halftone
