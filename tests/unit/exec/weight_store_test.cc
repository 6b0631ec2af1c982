#include "core/exec/weight_store.h"

#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

absl::StatusOr<PackedWeights> Hundred() { return PackedWeights{.buffer = Buffer::Allocate(100)}; }

TEST(WeightStore, KeepsWhatNobodyUses) {
  WeightStore store;
  HT_ASSERT_OK(store.GetOrMake("a", Hundred).status());
  EXPECT_EQ(store.total_bytes(), 100);
}

TEST(WeightStore, WhatIsNotKeptGoesWithItsLastUser) {
  WeightStore store;
  store.KeepUnused(false);
  HT_ASSERT_OK_AND_ASSIGN(PackedWeights a, store.GetOrMake("a", Hundred));
  HT_ASSERT_OK_AND_ASSIGN(PackedWeights again, store.GetOrMake("a", Hundred));
  EXPECT_EQ(a.buffer, again.buffer);
  a = {};
  EXPECT_EQ(store.total_bytes(), 100);
  again = {};
  EXPECT_EQ(store.total_bytes(), 0);
}

TEST(WeightStore, WhatOneWantsToKeepStays) {
  WeightStore store;
  store.KeepUnused(false);
  HT_ASSERT_OK_AND_ASSIGN(PackedWeights a, store.GetOrMake("a", Hundred));
  store.KeepUnused(true);
  HT_ASSERT_OK(store.GetOrMake("a", Hundred).status());
  store.KeepUnused(false);
  HT_ASSERT_OK(store.GetOrMake("a", Hundred).status());
  a = {};
  EXPECT_EQ(store.total_bytes(), 100);
}

}  // namespace
}  // namespace halftone
