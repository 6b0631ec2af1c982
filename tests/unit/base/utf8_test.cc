#include "core/base/utf8.h"

#include <gmock/gmock.h>

namespace halftone {
namespace {

TEST(Utf8, ReplacesOnlyWhatIsNotUtf8) {
  EXPECT_EQ(Utf8("Conv_1/größe → 😀"), "Conv_1/größe → 😀");
  EXPECT_EQ(Utf8("a\xffz"), "a?z");
  EXPECT_EQ(Utf8("\xc3"), "?");
  EXPECT_EQ(Utf8("\xc0\xaf"), "??");            // overlong '/'
  EXPECT_EQ(Utf8("\xed\xa0\x80"), "???");       // a surrogate
  EXPECT_EQ(Utf8("\xf4\x90\x80\x80"), "????");  // beyond U+10FFFF
}

}  // namespace
}  // namespace halftone
