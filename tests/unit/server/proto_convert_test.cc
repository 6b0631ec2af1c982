#include "server/proto_convert.h"

#include <gmock/gmock.h>

#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::HasSubstr;
using enum absl::StatusCode;

class SpecRoundTrip : public testing::TestWithParam<const char*> {};

TEST_P(SpecRoundTrip, KeepsTheSpec) {
  HT_ASSERT_OK_AND_ASSIGN(const QuantSpec spec, QuantSpec::Parse(GetParam()));
  v1::QuantSpec proto;
  ToProto(spec, proto);
  EXPECT_EQ(proto.text(), spec.ToString());
  HT_ASSERT_OK_AND_ASSIGN(const QuantSpec back, FromProto(proto));
  EXPECT_EQ(back, spec) << back.ToString();
}

INSTANTIATE_TEST_SUITE_P(Specs, SpecRoundTrip,
                         testing::Values("fp32", "fp16", "bf16", "int8", "int8/per-tensor/static",
                                         "int8/per-channel/dynamic", "int8/per-channel/weight-only",
                                         "int8/per-channel/static/calib=mine",
                                         "int8/per-channel/static;node=head=fp32;op=Softmax=fp16"));

TEST(FromProto, RefusesEnumsWithoutMeaning) {
  v1::QuantSpec proto;
  proto.set_weights(static_cast<v1::WeightType>(99));
  EXPECT_THAT(FromProto(proto), StatusIs(kInvalidArgument, HasSubstr("99")));
  proto.set_weights(v1::WEIGHT_TYPE_INT8);
  (*proto.mutable_op_overrides())["Conv"] = v1::WEIGHT_TYPE_UNSPECIFIED;
  EXPECT_THAT(FromProto(proto), StatusIs(kInvalidArgument, HasSubstr("Conv")));
  EXPECT_THAT(FromProto(v1::DATA_TYPE_UNSPECIFIED, "input 'x': type"),
              StatusIs(kInvalidArgument, HasSubstr("input 'x': type")));
}

TEST(FromProto, KeepsNamesThatLookLikeGrammar) {
  v1::QuantSpec proto;
  proto.set_weights(v1::WEIGHT_TYPE_FP16);
  (*proto.mutable_node_overrides())["a=fp32;node=b"] = v1::WEIGHT_TYPE_FP32;
  HT_ASSERT_OK_AND_ASSIGN(const QuantSpec spec, FromProto(proto));
  EXPECT_EQ(*QuantSpec::Parse(spec.ToString()), spec);
  EXPECT_EQ(spec.node_overrides.size(), 1u);
}

TEST(SelectorText, NamesAVariantAsTheStoreDoes) {
  v1::VariantSelector selector;
  EXPECT_EQ(*SelectorText(selector), "");
  selector.set_spec_text("bf16");
  EXPECT_EQ(*SelectorText(selector), "bf16");
  selector.mutable_spec()->set_weights(v1::WEIGHT_TYPE_FP16);
  EXPECT_EQ(*SelectorText(selector), "fp16");
  selector.set_variant_id("0123456789abcdef");
  EXPECT_EQ(*SelectorText(selector), "0123456789abcdef");
}

TEST(SelectorText, RefusesBadSpecsAndSpecsAsIds) {
  v1::VariantSelector selector;
  selector.set_spec_text("int9");
  EXPECT_THAT(SelectorText(selector), StatusIs(kInvalidArgument));
  selector.set_variant_id("int8");
  EXPECT_THAT(SelectorText(selector), StatusIs(kInvalidArgument, HasSubstr("spec_text")));
}

TEST(WishOf, IsRequired) {
  EXPECT_THAT(WishOf(v1::QuantizeRequest()), StatusIs(kInvalidArgument, HasSubstr("missing")));
}

TEST(ToProto, LeavesTop1OutWhenThereAreNoClasses) {
  v1::Report report;
  ToProto(VariantReport{.top1_agreement = -1}, report);
  EXPECT_FALSE(report.has_top1_agreement_ratio());
  ToProto(VariantReport{.top1_agreement = 0, .latency_seconds = 1.25}, report);
  EXPECT_TRUE(report.has_top1_agreement_ratio());
  EXPECT_EQ(report.latency().seconds(), 1);
  EXPECT_EQ(report.latency().nanos(), 250'000'000);
}

}  // namespace
}  // namespace halftone
