#include "core/store/variant_id.h"

#include <gmock/gmock.h>

#include <set>

#include "core/base/sha256.h"
#include "core/base/status_macros.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::HasSubstr;

const std::vector<CalibrationRef>& TwoSets() {
  static const std::vector<CalibrationRef> sets = {{.name = "old", .sequence = 1, .digest = "aa"},
                                                   {.name = "new", .sequence = 2, .digest = "bb"}};
  return sets;
}

absl::StatusOr<ResolvedVariant> Resolve(absl::string_view text,
                                        absl::Span<const CalibrationRef> sets = {},
                                        absl::string_view isa = "vnni",
                                        absl::string_view model = "m") {
  HT_ASSIGN_OR_RETURN(QuantSpec spec, QuantSpec::Parse(text));
  return ResolveVariant(model, sets, isa, std::move(spec));
}

TEST(ResolveVariant, GivesAStableSha256) {
  const ResolvedVariant v = *Resolve("fp16");
  EXPECT_TRUE(IsSha256Hex(v.id));
  EXPECT_EQ(v.id, Resolve("fp16")->id);
  EXPECT_EQ(v.text, "fp16");
}

TEST(ResolveVariant, AutoIsStaticWithSamplesAndDynamicWithout) {
  EXPECT_EQ(Resolve("int8", TwoSets())->id, Resolve("int8/per-channel/static", TwoSets())->id);
  EXPECT_EQ(Resolve("int8")->id, Resolve("int8/per-channel/dynamic")->id);
  EXPECT_EQ(Resolve("int8")->text, "int8/per-channel/dynamic");
  EXPECT_FALSE(Resolve("int8")->calibration);
}

TEST(ResolveVariant, EverythingThatChangesNumbersChangesTheId) {
  const std::set<std::string> ids = {
      Resolve("fp32")->id,
      Resolve("fp16")->id,
      Resolve("fp16", {}, "vnni", "another model")->id,
      Resolve("int8/per-channel/static", TwoSets())->id,
      Resolve("int8/per-tensor/static", TwoSets())->id,
      Resolve("int8/per-channel/static", {TwoSets()[0]})->id,
      Resolve("int8/per-channel/static", TwoSets(), "no-vnni")->id,
      Resolve("int8/per-channel/dynamic")->id,
      Resolve("int8/per-channel/dynamic", {}, "no-vnni")->id,
      Resolve("int8/per-channel/weight-only")->id,
      Resolve("int4/with=gptq", TwoSets())->id,
      Resolve("int4/with=gptq", TwoSets(), "no-vnni")->id,
  };
  EXPECT_EQ(ids.size(), 12u);
}

TEST(ResolveVariant, WhatDoesNotChangeNumbersDoesNotChangeTheId) {
  EXPECT_EQ(Resolve("fp16", TwoSets(), "vnni")->id, Resolve("fp16", {}, "no-vnni")->id);
  EXPECT_EQ(Resolve("int8/per-channel/weight-only", {}, "vnni")->id,
            Resolve("int8/per-channel/weight-only", TwoSets(), "no-vnni")->id);
  EXPECT_EQ(Resolve("int8/per-channel/dynamic", TwoSets())->id,
            Resolve("int8/per-channel/dynamic")->id);
}

TEST(ResolveVariant, TheSetsContentIsTheIdentityNotItsName) {
  const ResolvedVariant by_name = *Resolve("int8/per-channel/static/calib=new", TwoSets());
  EXPECT_EQ(by_name.id, Resolve("int8/per-channel/static", TwoSets())->id);
  EXPECT_EQ(by_name.text, "int8/per-channel/static");
  EXPECT_EQ(by_name.calibration->sequence, 2);
  EXPECT_EQ(Resolve("int8/per-channel/static/calib=old", TwoSets())->calibration->sequence, 1);
}

TEST(ResolveVariant, SyntheticSamplesAreSeenInTheTextAndNeedNoSet) {
  const ResolvedVariant v = *Resolve("int8/calib=synthetic");
  EXPECT_EQ(v.text, "int8/per-channel/static/calib=synthetic");
  EXPECT_FALSE(v.calibration);
  EXPECT_EQ(Resolve("int8/calib=synthetic", TwoSets())->id, v.id);
  EXPECT_NE(Resolve("int8/per-channel/static", TwoSets())->id, v.id);
}

TEST(ResolveVariant, SaysWhatIsMissing) {
  EXPECT_THAT(Resolve("int8/per-channel/static"),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("calibration")));
  EXPECT_THAT(Resolve("int8/per-channel/static/calib=none", TwoSets()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("'old', 'new'")));
}

TEST(LooksLikeVariantId, WantsAtLeastEightHexDigits) {
  EXPECT_TRUE(LooksLikeVariantId("0123abcd"));
  EXPECT_TRUE(LooksLikeVariantId(Sha256Hex("x")));
  EXPECT_FALSE(LooksLikeVariantId("0123abc"));
  EXPECT_FALSE(LooksLikeVariantId("0123abcg"));
  EXPECT_FALSE(LooksLikeVariantId(Sha256Hex("x") + "0"));
}

}  // namespace
}  // namespace halftone
