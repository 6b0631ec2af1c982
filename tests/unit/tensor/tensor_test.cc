#include "core/tensor/tensor.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

template <typename To>
std::vector<To> ConvertTo(const Tensor& t) {
  const Tensor out = *Convert(t, DataTypeOf<To>::value);
  return std::vector<To>(out.data<To>().begin(), out.data<To>().end());
}

TEST(Tensor, OwnsAlignedBytesOfItsShape) {
  HT_ASSERT_OK_AND_ASSIGN(const Tensor t, Tensor::Create(DataType::kI4, {3, 3}));
  EXPECT_EQ(t.num_elements(), 9);
  EXPECT_EQ(t.num_bytes(), 5);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(t.raw()) % Buffer::kAlignment, 0u);
  EXPECT_EQ(Tensor().num_elements(), 0);
  EXPECT_EQ(Tensor::Scalar<int64_t>(7).rank(), 0);
}

TEST(Tensor, RefusesImpossibleShapes) {
  EXPECT_THAT(Tensor::Create(DataType::kF32, {2, -1}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Tensor::Create(DataType::kF32, {int64_t{1} << 62, 4}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Tensor::Create(DataType::kU8, {int64_t{1} << 58}),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST(Tensor, ViewsIntoABufferMustFit) {
  const std::shared_ptr<Buffer> buffer = Buffer::Allocate(16);
  HT_EXPECT_OK(Tensor::FromBuffer(DataType::kF32, {3}, buffer, 4));
  EXPECT_THAT(Tensor::FromBuffer(DataType::kF32, {3}, buffer, 8),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("12 bytes at offset 8")));
  EXPECT_THAT(Tensor::FromBuffer(DataType::kF32, {0}, buffer, 17),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(Tensor, CopiesShareAndClonesDoNot) {
  Tensor a = Tensor::Of<float>({2}, {1, 2});
  const Tensor shared = a;
  const Tensor reshaped = a.Reshaped({2, 1});
  const Tensor clone = *a.Clone();
  a.mutable_data<float>()[0] = 9;
  EXPECT_THAT(shared.data<float>(), ElementsAre(9, 2));
  EXPECT_THAT(reshaped.data<float>(), ElementsAre(9, 2));
  EXPECT_THAT(clone.data<float>(), ElementsAre(1, 2));
  EXPECT_EQ(a.Reinterpreted(DataType::kI32).data<int32_t>()[1], 0x40000000);
}

TEST(Tensor, PrintsTypeShapeAndTheFirstValues) {
  EXPECT_EQ(Tensor::Of<int8_t>({3}, {1, -2, 3}).ToString(), "i8[3] {1, -2, 3}");
  EXPECT_EQ(Tensor::Of<float>({3}, {0.5f, 1, 2}).ToString(2), "f32[3] {0.5, 1, …}");
}

TEST(Convert, FloatToIntegerTruncatesAndSaturates) {
  const Tensor f = Tensor::Of<float>({8}, {2.9f, -2.9f, 1e9f, -1e9f, kInf, -kInf, kNan, -0.5f});
  EXPECT_THAT(ConvertTo<int8_t>(f), ElementsAre(2, -2, 127, -128, 127, -128, 0, 0));
  EXPECT_THAT(ConvertTo<uint8_t>(f), ElementsAre(2, 0, 255, 0, 255, 0, 0, 0));
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
  EXPECT_THAT(ConvertTo<int64_t>(Tensor::Of<float>({4}, {0x1p62f, 0x1p63f, -0x1p63f, -kInf})),
              ElementsAre(int64_t{1} << 62, kMax, kMin, kMin));
}

TEST(Convert, FloatToHalfRoundsToNearestEven) {
  const Tensor f = Tensor::Of<float>({3}, {2049, 2051, 1e9f});
  const auto halves = ConvertTo<Float16>(f);
  EXPECT_EQ(static_cast<float>(halves[0]), 2048);
  EXPECT_EQ(static_cast<float>(halves[1]), 2052);
  EXPECT_EQ(static_cast<float>(halves[2]), kInf);
  EXPECT_EQ(static_cast<float>(ConvertTo<BFloat16>(Tensor::Of<float>({1}, {257}))[0]), 256);
}

TEST(Convert, HalfToOthersGoesThroughFloat) {
  const Tensor h = Tensor::Of<Float16>({2}, {Float16(2.5f), Float16(-300.0f)});
  EXPECT_THAT(ConvertTo<int8_t>(h), ElementsAre(2, -128));
  EXPECT_THAT(ConvertTo<double>(h), ElementsAre(2.5, -300));
}

TEST(Convert, ToBoolIsNotZero) {
  EXPECT_THAT(ConvertTo<bool>(Tensor::Of<float>({4}, {0, -0.0f, 0.1f, kNan})),
              ElementsAre(false, false, true, true));
  EXPECT_THAT(ConvertTo<float>(Tensor::Of<bool>({2}, {true, false})), ElementsAre(1, 0));
}

TEST(Convert, KeepsTheShapeAndSharesWhenNothingChanges) {
  const Tensor t = Tensor::Of<int32_t>({1, 2}, {3, 4});
  EXPECT_EQ(Convert(t, DataType::kI32)->raw(), t.raw());
  EXPECT_THAT(Convert(t, DataType::kF32)->shape(), ElementsAre(1, 2));
  EXPECT_THAT(Convert(t, DataType::kI4), StatusIs(absl::StatusCode::kUnimplemented));
}

TEST(ToInt64s, TakesIntegersOnly) {
  EXPECT_THAT(*ToInt64s(Tensor::Of<uint8_t>({2}, {1, 255})), ElementsAre(1, 255));
  EXPECT_THAT(ToInt64s(Tensor::Of<float>({1}, {1})), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ToInt64s(Tensor::Of<bool>({1}, {true})),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(DataTypeNames, RoundTrip) {
  for (const DataTypeInfo& info : kDataTypes) {
    EXPECT_EQ(DataTypeFromName(info.name), info.type);
    EXPECT_EQ(DataTypeFromOnnx(info.onnx_code), info.type);
    if (info.wire_name.empty()) continue;
    EXPECT_EQ(DataTypeFromWireName(info.wire_name), info.type);
  }
  EXPECT_FALSE(DataTypeFromName("f8"));
  EXPECT_FALSE(DataTypeFromWireName(""));
  EXPECT_FALSE(DataTypeFromOnnx(0));
}

}  // namespace
}  // namespace halftone
